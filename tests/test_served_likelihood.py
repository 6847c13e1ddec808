"""What is read of a server's answer, and log p0 computed from it, with no server."""

import json

import numpy as np
import pytest
from completions import completion

from exptilt.engines.base import P0
from exptilt.engines.openai.answers import read
from exptilt.engines.openai.likelihood import as_sampled, mean_nll
from exptilt.engines.toy import truncate
from exptilt.models.reference import ModelRef

MODEL = ModelRef(name="m", source="m", revision="1")
LAWS = [
    (1.0, 0, 1.0),
    (1.0, 5, 1.0),
    (0.7, 5, 1.0),
    (1.4, 5, 0.8),
    (1.0, 12, 0.5),
    (0.2, 3, 0.3),
    (1.0, 1, 1.0),
]


def p0(temperature: float, top_k: int, top_p: float) -> P0:
    law = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    return P0(model=MODEL, dtype="served", max_new_tokens=9, **law)


@pytest.mark.parametrize("law", LAWS)
def test_the_likeliest_tokens_give_log_p0_as_sampled(law):
    """Of every token that the law keeps, by the engines' own definition of it; of others nothing."""
    p, logits = p0(*law), np.random.default_rng(0).normal(scale=3, size=(20, 12))
    for row in logits:
        raw = row - np.logaddexp.reduce(row)
        tops = np.sort(raw)[::-1][: p.top_k or None].tolist()
        exact = truncate(row, p)
        for token in np.flatnonzero(np.isfinite(exact)):
            found = as_sampled([raw[token]] * 2, [tops, tops[::-1]], p)
            assert found == pytest.approx(2 * exact[token], abs=1e-9)
        if p.top_k:
            assert as_sampled([tops[-1] - 1], [tops], p) is None


def test_too_few_of_the_likeliest_are_not_enough():
    law = p0(0.5, 3, 1.0)
    assert as_sampled([-1.0], [[-1.0, -2.0]], law) is None
    assert as_sampled([-1.0], [], law) is None
    whole = [float(np.log(0.75)), float(np.log(0.25))]  # all there are
    assert as_sampled(whole[:1], [whole], law) == pytest.approx(np.log(0.9))


def test_a_mean_of_no_tokens_is_none():
    assert mean_nll([], []) is None
    assert mean_nll([-1.0], [-2.0, -3.0]) == pytest.approx(2.0)


def answer(**choice) -> dict:
    said = completion("ab", 2)
    said["choices"][0] |= choice
    return said


SAID = {"tokens": ["token_id:4", "token_id:5"], "token_logprobs": [-1.0, -2.0]}
TOPS = [{"token_id:4": -1.0}, {"token_id:5": -2, "token_id:6": float("-inf")}]
ODD = [
    None,
    [],
    "none",
    {},
    {"content": [{"token": "a"}]},
    {"content": [None, None]},
    {**SAID, "top_logprobs": [None, None]},
    {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0}]},
    {"token_logprobs": [None, "x"], "top_logprobs": [{"a": "x"}, {}]},
    {"token_logprobs": [float("nan"), -1.0], "top_logprobs": [{"a": float("nan")}, {"a": -1.0}]},
]


@pytest.mark.parametrize("logprobs", ODD)
def test_what_is_not_said_of_each_token_is_not_known(logprobs):
    said = answer(logprobs=logprobs, token_ids=[1, 2, 3], prompt_logprobs=[None, {}])
    found = read(json.loads(json.dumps(said)))
    assert (found.text, found.n_drawn, found.finish_reason) == ("ab", 2, "length")
    assert (found.tops, found.prompt) == (None, None)
    assert found.own is None or logprobs == ODD[6]


def test_ids_are_read_from_tokens_that_are_written_as_ids():
    found = read(answer(logprobs={**SAID, "top_logprobs": TOPS}))
    assert (found.tokens, found.own) == ([4, 5], [-1.0, -2.0])
    assert found.tops == [[-1.0], [-2, float("-inf")]]
    assert read(answer(logprobs={**SAID, "tokens": ["a", "token_id:5"]})).tokens is None


@pytest.mark.parametrize("said", [None, [], "x", {}, {"choices": []}, {"choices": [None], "usage": {}}])
def test_what_is_no_answer_is_refused_with_its_beginning(said):
    with pytest.raises(ValueError, match=r"^[^\n]{1,60}$"):
        read(said)


@pytest.mark.parametrize("field", ["stop_reason", "matched_stop"])
def test_a_stop_text_is_told_from_an_end_token(field):
    by_text, by_token = (read(answer(finish_reason="stop", **{field: what})) for what in ("\n\n", 2))
    assert (by_text.by_text, by_text.ended) == (True, False)
    assert (by_token.by_text, by_token.ended) == (False, True)
