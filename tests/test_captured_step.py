"""What a GPU captures once and replays: every step is the same operations on the same shapes, nothing is read
back from the device, and a step done again changes nothing."""

import pytest
import torch
from families import causal_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from exptilt.engines.huggingface import shared_prefix
from exptilt.engines.huggingface.incremental import Stepper
from exptilt.models.batching import left_pad

FAMILIES = ["gpt2", "llama", "qwen3", "gemma3_text"]
READ_BACK = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "unique")
STEPS = 20  # beyond the slots that there are at first
PROMPTS = [[5, 9, 7, 11, 6], [8, 12]]


class Operations(TorchDispatchMode):
    """Keeps the operations, with the shapes that they take."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        shapes = [tuple(x.shape) for x in args if isinstance(x, torch.Tensor)]
        self.seen.append((operation.overloadpacket.__name__, shapes))
        return operation(*args, **(kwargs or {}))


@pytest.fixture(params=FAMILIES)
def model(request, tmp_path):
    return AutoModelForCausalLM.from_pretrained(causal_model(request.param, tmp_path / "model")).eval()


def stepper_of(model):
    return Stepper.prefill(model, *left_pad(PROMPTS, "cpu"))[0]


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(shared_prefix, "AT_HAND", ())


@torch.inference_mode()
def test_a_cpu_computes_the_same(model, monkeypatch):
    steps = []
    for at_hand in ((), ("cpu",)):
        monkeypatch.setattr(shared_prefix, "AT_HAND", at_hand)
        stepper = stepper_of(model)
        with stepper.fork(3, STEPS, "shared"):
            steps.append([stepper.next_logits(torch.arange(6) + step).clone() for step in range(STEPS)])
    assert all(torch.equal(*both) for both in zip(*steps, strict=True))


@torch.inference_mode()
def test_every_step_is_the_same_operations_and_reads_nothing_back(model):
    stepper = stepper_of(model)
    seen = {}
    with stepper.fork(3, STEPS, "shared"):
        for _ in range(STEPS):
            with Operations() as operations:
                stepper.next_logits(torch.arange(6) + 5)
            seen.setdefault(tuple(stepper.cache.hidden.shape), []).append(operations.seen)
    assert len(seen) == 2
    for steps in seen.values():
        later = steps[1:]  # the first one may add slots
        assert all(step == later[0] for step in later)
        assert not [name for name, _ in later[0] if name in READ_BACK]


@torch.inference_mode()
def test_a_step_done_again_changes_no_bit(model):
    """As the warm-ups before a capture do it, on tensors that stay."""
    once, again = stepper_of(model), stepper_of(model)
    tokens = torch.zeros(6, 1, dtype=torch.long)
    with once.fork(3, STEPS, "shared"):
        expected = [once.next_logits(torch.arange(6) + step).clone() for step in range(STEPS)]
    with again.fork(3, STEPS, "shared"):
        positions = again.positions.clone()
        for step in range(STEPS):
            tokens.copy_(torch.arange(6)[:, None] + step)
            positions.add_(1)
            again.cache.advance()
            for _ in range(3):
                logits = again.forward(tokens, positions)
            assert torch.equal(logits[:, -1], expected[step])
