"""The private names of libraries that have no public one beside them: an update that drops one fails here."""

import torch
from s3fs.core import S3File
from transformers import LlamaConfig, PreTrainedModel


def test_torch_has_the_packed_products_of_packed_linear():
    for name in ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported"):
        assert hasattr(torch.ops.mkldnn, name), f"torch {torch.__version__} lacks torch.ops.mkldnn.{name}"


def test_transformers_says_which_attention_a_model_has():
    config = LlamaConfig(attn_implementation="sdpa")
    assert config._attn_implementation == "sdpa", "shared_prefix.forked reads config._attn_implementation"
    assert callable(PreTrainedModel.is_backend_compatible)


def test_a_file_of_s3fs_sends_its_requests_by_one_name():
    assert callable(getattr(S3File, "_call_s3", None)), "s3_uploads.file_with_retries wraps S3File._call_s3"
