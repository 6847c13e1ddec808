"""Models in other formats are refused in one line that says what to do, before anything loads."""

import json
import shutil
from pathlib import Path

import pytest
from checkpoints import causal, classifier

from exptilt import rewards
from exptilt.engines import registry
from exptilt.errors import ModelError
from exptilt.models import formats, reference
from exptilt.models.loading import check_causal

ONLY = [
    (
        "model-Q4_K_M.gguf",
        "GGUF",
        "convert it .*gguf_file=FILE.* or serve it and pass http://HOST:PORT/v1#MODEL",
    ),
    ("weights.npz", "MLX", "pass the checkpoint that it was made from, or serve it"),
    ("onnx/model.onnx", "ONNX", "pass the checkpoint that it was made from"),
    ("model.onnx", "ONNX", "pass the checkpoint that it was made from"),
    ("openvino_model.bin", "OpenVINO", "pass the checkpoint"),
    ("tf_model.h5", "TensorFlow", "pass the checkpoint"),
    ("flax_model.msgpack", "Flax", "pass the checkpoint"),
    ("consolidated.00.pth", "Meta's own", "pass the checkpoint"),
]


def said(model: str) -> str:
    """What is said of a base model while planning."""
    with pytest.raises(ModelError) as found:
        check_causal(reference.checkpoint(model))
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize(("name", "kind", "advice"), ONLY)
def test_a_folder_of_another_format_alone_is_refused_by_name(tmp_path, name, kind, advice, with_config):
    path = tmp_path / "model" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    if with_config:
        (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
    expected = rf"^base model '.*model' is a model in {kind} format \({name}\), not a checkpoint .*: {advice}"
    with pytest.raises(ModelError, match=expected):
        reference.checkpoint(str(tmp_path / "model"))
    toy = rewards.Beside(base=registry.base_model("toy"), dtype="float32", base_dtype="float32")
    with pytest.raises(ModelError, match=rf"^value 'tone': model '.*model' is a model in {kind} format"):
        rewards.resolve(f"tone={tmp_path / 'model'}", toy)


@pytest.mark.parametrize(("name", "kind", "_advice"), ONLY)
def test_other_formats_beside_a_checkpoint_do_not_matter(tmp_path, name, kind, _advice):
    folder = Path(causal(tmp_path / "model", "gpt2"))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"weights")
    check_causal(reference.checkpoint(str(folder)))


@pytest.mark.parametrize("name", ["x.gguf", "gone/x.GGUF", "org/model/x.gguf", "model.onnx"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_file_of_another_format_is_refused_by_name(tmp_path, monkeypatch, name, is_there):
    monkeypatch.chdir(tmp_path)
    if is_there:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"GGUF")
    assert f"base model '{name}' is a model in {'ONNX' if 'onnx' in name else 'GGUF'} format" in said(name)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "adapter_model.safetensors", "x.pt"])
def test_a_single_file_is_refused_with_what_to_pass(tmp_path, name):
    (tmp_path / name).write_bytes(b"weights")
    assert said(str(tmp_path / name)).endswith(f"{name}' is a file: pass the folder that it lies in")


QUANTISED = [
    ({"quantization_config": {"quant_method": "awq", "bits": 4}}, r"is quantised \(awq\) .*gptqmodel"),
    ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, r"is quantised \(gptq\) .*optimum|GPU"),
    ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "bitsandbytes"),
    ({"quantization_config": {"quant_method": "compressed-tensors"}}, "compressed.tensors"),
    (
        {"quantization_config": {"quant_method": "exl2", "bits": 4}},
        r"is quantised \(exl2\) and cannot be loaded",
    ),
    (
        {"quantization": {"group_size": 64, "bits": 4}},
        "is a model in MLX format .quantization in config.json.",
    ),
    (
        {f"quantization{end}": {"group_size": 64, "bits": 4} for end in ("", "_config")},
        "is a model in MLX format",
    ),
]


@pytest.mark.parametrize(("settings", "words"), QUANTISED)
def test_a_quantised_checkpoint_that_cannot_be_loaded_here_is_refused(tmp_path, settings, words):
    for make, plan in ((lambda folder: causal(folder, "llama"), said), (classifier, reward_said)):
        folder = make(tmp_path / "model")
        path = Path(folder) / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
        found = plan(folder)
        shutil.rmtree(folder)
        assert __import__("re").search(words, found), found


def reward_said(folder: str) -> str:
    toy = rewards.Beside(base=registry.base_model("toy"), dtype="float32", base_dtype="float32")
    with pytest.raises(ModelError) as found:
        rewards.resolve(f"tone={folder}", toy)
    assert "\n" not in str(found.value)
    return str(found.value)


def test_what_a_repository_lists_counts_as_a_folder_does():
    with pytest.raises(ModelError, match=r"GGUF format .a.gguf."):
        formats.check(["README.md", "a.gguf", "b.gguf", "config.json"], "it")
    formats.check(["a.gguf", "model-00001-of-00002.safetensors"], "it")
    formats.check(["README.md"], "it")
