"""What holds for every engine and every reward: classes of laws that a test of any of them inherits."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from exptilt.engines.base import FINISH_REASONS, P0, Engine, EngineSpec, Sample
from exptilt.engines.stop_texts import before_stop
from exptilt.rewards.base import Reward
from exptilt.storage import keys

CLOSE = 1e-4  # what the batch may move in a float32 number


class EngineContract:
    """Laws of an engine; a subclass has the fixtures `spec` and `p0`, a p0 without stop texts."""

    prompts = ("abc", "fed cab", "aa", "bad face")
    n = 6

    @pytest.fixture
    def spec(self) -> EngineSpec:
        raise NotImplementedError

    @pytest.fixture
    def p0(self) -> P0:
        raise NotImplementedError

    def draw(self, spec: EngineSpec, p0: P0, prompts=None, n=None, rows=0) -> list[list[Sample]]:
        """Samples of some prompts by the one engine that all laws of a p0 are asked of."""
        chosen = list(self.prompts if prompts is None else prompts)
        return engine(spec, p0).draw(chosen, keys.seeds_for(0, chosen, 0, n or self.n), rows)

    def test_its_models_name_it(self, spec, p0):
        assert p0.model.engine == spec.name

    def test_same_seeds_same_draws(self, spec, p0):
        drawn = self.draw(spec, p0)
        assert [len(row) for row in drawn] == [self.n] * len(self.prompts)
        assert len({sample.completion for row in drawn for sample in row}) > 1
        engine.cache_clear()  # so that the second is another engine's
        same(self.draw(spec, p0), drawn)

    @pytest.mark.parametrize("rows", [1, 3, 1000])
    def test_batch_layout_changes_no_draw(self, spec, p0, rows):
        same(self.draw(spec, p0, rows=rows), self.draw(spec, p0))

    def test_order_and_neighbours_change_no_draw(self, spec, p0):
        drawn = self.draw(spec, p0)
        same(self.draw(spec, p0, self.prompts[::-1])[::-1], drawn)
        same([self.draw(spec, p0, [prompt])[0] for prompt in self.prompts], drawn)

    def test_more_samples_extend_fewer(self, spec, p0):
        same([row[:2] for row in self.draw(spec, p0)], self.draw(spec, p0, n=2))

    def test_no_prompts_no_samples(self, spec, p0):
        assert engine(spec, p0).draw([], np.empty((0, self.n), dtype=np.int64), 0) == []

    def test_likelihoods_are_given_where_the_engine_says_so(self, spec, p0):
        for sample in (sample for row in self.draw(spec, p0) for sample in row):
            if spec.can.gives_likelihood or (sample.nll is not None and spec.can.finds_likelihood):
                assert -np.inf < sample.logprob < CLOSE
                assert -CLOSE < sample.nll < np.inf
            else:
                assert (sample.logprob, sample.nll) == (None, None)

    def test_tokens_are_those_of_the_completion_and_the_end_token(self, spec, p0):
        """The end token last, where one was drawn; null where the engine does not know them."""
        for sample in (sample for row in self.draw(spec, p0) for sample in row):
            if sample.tokens is not None:
                assert len(sample.tokens) == sample.n_tokens + (sample.finish_reason == "stop")

    def test_a_completion_is_as_long_as_its_finish_reason_says(self, spec, p0):
        for sample in (sample for row in self.draw(spec, p0) for sample in row):
            assert sample.finish_reason in FINISH_REASONS
            assert sample.n_tokens <= p0.max_new_tokens
            assert (sample.finish_reason == "length") == (sample.n_tokens == p0.max_new_tokens)

    def test_a_stop_text_cuts_the_same_draw(self, spec, p0):
        """The completion ends before the stop text and is the one drawn without it up to there."""
        drawn = self.draw(spec, p0)
        stop = next(s.completion[1] for row in drawn for s in row if len(s.completion) > 1)
        for free, stopped in zip(flat(drawn), flat(self.draw(spec, replace(p0, stop=(stop,)))), strict=True):
            assert stopped.completion == before_stop(free.completion, [stop])
            if stop in free.completion:
                assert stopped.finish_reason == "stop"

    @pytest.mark.parametrize("rows", [0, 3])
    def test_a_completion_goes_on_as_it_was_drawn(self, spec, p0, rows):
        """From any of its first tokens, by the seed of the sample; also where a stop text is cut through."""
        if not spec.can.continues:
            pytest.skip("the engine does not draw the rest of a completion")
        drawn = flat(self.draw(spec, p0))
        text = next(s.completion[:2] for s in drawn if len(s.completion) > 2)
        prompts = [prompt for prompt in self.prompts for _ in range(self.n)]
        seeds = keys.seeds_for(0, self.prompts, 0, self.n).ravel()
        for law in (p0, replace(p0, stop=(text,))):
            samples = flat(self.draw(spec, law))
            for place in range(max(len(s.tokens) for s in samples)):
                begun = [s.tokens[: min(place, len(s.tokens) - 1)] for s in samples]
                same([engine(spec, law).extend(prompts, begun, seeds, rows)], [without_logprob(samples)])


def without_logprob(samples: list[Sample]) -> list[Sample]:
    """The samples as an engine says them that was given their first tokens."""
    return [sample._replace(logprob=None) for sample in samples]


@cache
def engine(spec: EngineSpec, p0: P0) -> Engine:
    """The engine of a p0, made once."""
    return spec.load(p0, "cpu")


def flat(drawn: list[list[Sample]]) -> list[Sample]:
    """The samples of all prompts."""
    return [sample for row in drawn for sample in row]


def same(found: list[list[Sample]], others: list[list[Sample]]) -> None:
    """Assert that two draws are one but for the last bits of their likelihoods."""
    assert [len(row) for row in found] == [len(row) for row in others]
    for one, other in zip(flat(found), flat(others), strict=True):
        assert (*one[:3], one.tokens) == (*other[:3], other.tokens)
        for number, expected in ((one.logprob, other.logprob), (one.nll, other.nll)):
            assert number == (None if expected is None else pytest.approx(expected, abs=CLOSE))


class RewardContract:
    """Laws of a reward; a subclass has the fixture `reward`."""

    prompts = ("why?", "the goose", "why?", "the room was", "x", "Ärger")
    completions = (" the goose paid", " paid for the towels", " fine", "", " the room was fine", " im Café")
    nlls: tuple[float | None, ...] = (1.0, 2.5, 0.5, 3.0, 1.5, 2.0)

    @pytest.fixture
    def reward(self) -> Reward:
        raise NotImplementedError

    def score(self, reward: Reward, places=range(6)) -> np.ndarray:
        """The rewards of the samples at `places`."""
        columns = ([column[i] for i in places] for column in (self.prompts, self.completions, self.nlls))
        return reward.score(*columns).rewards

    def test_a_finite_number_per_sample(self, reward):
        numbers = self.score(reward)
        assert (numbers.dtype, numbers.shape) == (np.float64, (6,))
        assert np.isfinite(numbers).all()
        assert np.ptp(numbers) > 0

    def test_the_same_texts_have_the_same_rewards(self, reward):
        np.testing.assert_array_equal(self.score(reward), self.score(reward))

    def test_order_changes_no_reward(self, reward):
        turned = self.score(reward, range(5, -1, -1))[::-1]
        np.testing.assert_allclose(turned, self.score(reward), atol=CLOSE, rtol=0)

    def test_neighbours_change_no_reward(self, reward):
        alone = [self.score(reward, [place])[0] for place in range(6)]
        np.testing.assert_allclose(alone, self.score(reward), atol=CLOSE, rtol=0)

    def test_a_sample_twice_counts_twice(self, reward):
        twice = self.score(reward, [0, 1, 0, 1])
        np.testing.assert_allclose(twice[:2], twice[2:], atol=CLOSE, rtol=0)
