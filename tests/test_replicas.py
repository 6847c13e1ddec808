"""On a CPU threads with rows and cores of their own draw a batch, by replicas that share the weights."""

import pytest
import torch
from checkpoints import causal
from transformers import AutoModelForCausalLM

from exptilt.engines.base import P0
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.errors import LogitsError
from exptilt.models import reference
from exptilt.models.packed_linear import Packed, pack
from exptilt.models.replicas import ROWS, replica, side_by_side, threads_for
from exptilt.storage import keys

PROMPTS = ["abc", "fed cab", "a", "bad face", "b"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return causal(tmp_path_factory.mktemp("replicas") / "letters", "llama")


@pytest.fixture
def cores():
    """Set how many there are; the number of before comes back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def engine(folder: str) -> TransformersEngine:
    law = {"dtype": "float32", "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 12}
    return TransformersEngine(P0(model=reference.checkpoint(folder), ends=(0,), **law), "cpu")


@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:1]])
def test_any_number_of_threads_draws_the_same(folder, cores, prompts):
    seeds = keys.seeds_for(0, prompts, 0, 4 * ROWS // len(prompts))
    cores(1)
    alone = engine(folder)
    assert len(alone.models) == 1
    expected = alone.draw(prompts, seeds, 0)
    cores(4)
    several = engine(folder)
    assert len(several.models) == 4
    for rows, others in zip(several.draw(prompts, seeds, 0), expected, strict=True):
        assert [(s.completion, s.tokens) for s in rows] == [(s.completion, s.tokens) for s in others]
        assert [s.logprob for s in rows] == pytest.approx([s.logprob for s in others], abs=1e-4)


@pytest.mark.parametrize(("rows", "threads"), [(1, 1), (255, 1), (256, 2), (511, 2), (512, 4), (4096, 8)])
def test_a_thread_has_rows_enough(cores, rows, threads):
    cores(12)
    assert threads_for(rows, "cpu") == threads
    assert threads_for(rows, "cuda:0") == 1


def test_a_replica_shares_the_weights_and_not_how_it_attends(folder):
    model = pack(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16))
    copy = replica(model)
    for one, other in zip(model.parameters(), copy.parameters(), strict=True):
        assert one is other
    packed = zip(model.modules(), copy.modules(), strict=True)
    assert all(one.packed is other.packed for one, other in packed if isinstance(one, Packed))
    copy.set_attn_implementation("eager")
    assert model.config._attn_implementation != "eager"


def test_threads_keep_their_cores_and_the_caller_its_own(cores):
    cores(4)
    found = side_by_side([torch.get_num_threads] * 2)
    assert (found, torch.get_num_threads()) == ([2, 2], 4)


def test_what_one_raises_is_raised_when_all_have_ended():
    ended = []

    def fails():
        raise LogitsError("no numbers", 3)

    with pytest.raises(LogitsError, match="no numbers"):
        side_by_side([fails, lambda: ended.append(True)])
    assert ended == [True]
