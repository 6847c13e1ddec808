"""A token's choice: what is looked at first on a CPU loses none of the largest logits, nor likelihood."""

import math

import pytest
import torch

from exptilt.engines.base import P0
from exptilt.engines.huggingface.token_choice import COLUMNS, choose, largest, log_likelihood

V = 3 * COLUMNS + 117


def logits_of(rows, kind):
    torch.manual_seed(0)
    return (3 * torch.randn(rows, V)).to(kind)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("k", [1, 50, COLUMNS // 16, COLUMNS])
def test_the_largest_are_those_of_topk(kind, k):
    logits = logits_of(5, kind)
    kept, places = largest(logits, k)
    assert torch.equal(kept, logits.topk(k).values)
    assert torch.equal(logits.gather(-1, places), kept)
    assert all(len(set(row)) == k for row in places.tolist())


def test_the_largest_may_all_stand_in_one_column_or_behind_the_last_row():
    logits = torch.full((2, V), -5.0)
    logits[0, 7::COLUMNS] = torch.arange(4) + 1.0
    logits[1, -50:] = torch.arange(50) + 1.0
    kept, places = largest(logits, 50)
    assert kept[0, :4].tolist() == [4, 3, 2, 1]
    assert places[1].tolist() == list(range(V - 1, V - 51, -1))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, COLUMNS + 3, V - 1])
def test_a_logit_that_is_not_finite_is_found_wherever_it_stands(wrong, place):
    logits = logits_of(2, torch.bfloat16)
    logits[1, place] = wrong
    law = P0(model=None, dtype="bfloat16", temperature=1.0, top_k=50, top_p=1.0, max_new_tokens=1, ends=())
    _, logp, raw = choose(logits, torch.tensor([1, 2]), 0, law)
    assert logp.isnan().tolist() == raw.isnan().tolist() == [False, True]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_likelihood_is_that_of_the_softmax_and_the_logits_stay(kind):
    logits = logits_of(11, kind)
    before, tokens = logits.clone(), torch.randint(0, V, (11, 1))
    found = log_likelihood(logits, tokens, logits.amax(-1, keepdim=True).float())
    exact = logits.double().log_softmax(-1).gather(-1, tokens)[:, 0]
    assert (found - exact).abs().max() <= 2e-5
    assert torch.equal(logits, before)
