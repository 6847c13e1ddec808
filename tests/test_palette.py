"""Palettes: λ from targets by its closed forms, its optimality, and what no λ reaches."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from exptilt.config import targets
from exptilt.errors import ConfigError
from exptilt.tilting import feasibility, target_levels, target_solver
from exptilt.tilting.target_levels import AT_LEAST, AT_MOST, EXACTLY, Samples, TargetLevels


def samples(rewards: np.ndarray, counts: list[int] | None = None) -> Samples:
    counts = counts or [len(rewards)]
    return Samples(rewards.astype(float), (np.cumsum(counts) - counts).astype(np.intp))


def at_least(*levels: float) -> TargetLevels:
    return TargetLevels(np.array(levels), (AT_LEAST,) * len(levels))


@pytest.mark.parametrize(("p", "target"), [(0.3, 0.5), (0.1, 0.9), (0.5, 0.51)])
def test_a_two_valued_reward_has_a_closed_form(p, target):
    """p e^λ / (p e^λ + 1 − p) = target."""
    ones = int(p * 1000)
    found = target_solver.solve(
        samples(np.repeat([1.0, 0.0], [ones, 1000 - ones])[:, None]), at_least(target)
    )
    expected = np.log(target * (1 - p) / (p * (1 - target)))
    assert found.lam == pytest.approx([expected], rel=1e-6)
    kl = target * np.log(target / p) + (1 - target) * np.log((1 - target) / (1 - p))
    assert found.kl == pytest.approx(kl, rel=1e-6)


def test_normal_rewards_ask_for_their_precision_times_the_shift():
    """λ = Σ⁻¹ (c − mean), but for what 200,000 samples cannot show."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(200_000, 2)) @ np.array([[1.0, 0.4], [0.0, 0.8]])
    shift = np.array([0.5, 0.3])
    found = target_solver.solve(samples(mixed), at_least(*(mixed.mean(axis=0) + shift)))
    np.testing.assert_allclose(found.lam, np.linalg.solve(np.cov(mixed.T), shift), rtol=0.03)


def test_the_normaliser_is_each_prompts_own():
    """Prompts that differ in level but not in spread need the λ that one of them needs alone."""
    rng = np.random.default_rng(1)
    one = rng.normal(size=400)
    many = np.concatenate([one + 10 * k for k in range(5)])[:, None]
    alone = target_solver.solve(samples(one[:, None]), at_least(one.mean() + 0.5))
    grouped = samples(many, [400] * 5)
    together = target_solver.solve(grouped, at_least(many.mean() + 0.5))
    assert together.lam == pytest.approx(alone.lam, rel=1e-6)
    assert target_solver.solve(grouped.pooled(), at_least(many.mean() + 0.5)).lam[0] < 0.1 * alone.lam[0]


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_a_solution_meets_its_targets_at_least_kl(seed, width, prompts):
    """Levels at the targets, complementary slackness, no gap; and no other λ that meets them costs less."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(5, 30, size=prompts).tolist()
    data = samples(rng.normal(size=(sum(counts), width)), counts)
    target = at_least(*(target_levels.levels(data, np.zeros(width))[0] + rng.uniform(-0.3, 0.6, size=width)))
    if not feasibility.reach(data, target).feasible:
        return
    found = target_solver.solve(data, target)
    assert (found.lam >= 0).all()
    assert (found.gradient >= -1e-5).all()
    assert np.abs(found.lam * found.gradient).max() < 1e-4
    assert abs(found.gap) < 1e-4
    for other in found.lam + rng.uniform(-0.5, 0.5, size=(50, width)):
        weight, log_z = target_levels.weights(data, other)
        if (target_levels.levels(data, other)[0] >= target.levels).all():
            kl = (weight * (data.rewards @ other)).sum() / prompts - log_z.mean()
            assert kl >= found.kl - 1e-6


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_feasibility_is_that_of_the_whole_linear_program(seed, width, prompts):
    """Over every weight of every sample, solved at once."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, 12, size=prompts).tolist()
    data = samples(rng.normal(size=(sum(counts), width)), counts)
    base = target_levels.levels(data, np.zeros(width))[0]
    way = rng.uniform(0.1, 1.5, size=width)
    found = feasibility.reach(data, TargetLevels(base + way, (AT_LEAST,) * width))
    member = np.repeat(np.eye(prompts), counts, axis=0)
    whole = linprog(
        np.append(np.zeros(len(member)), -1.0),
        A_ub=np.column_stack([-(data.rewards / prompts).T, way]),
        b_ub=-base,
        A_eq=np.column_stack([member.T, np.zeros(prompts)]),
        b_eq=np.ones(prompts),
        bounds=[(0, None)] * len(member) + [(0, 2)],
    )
    assert found.share == pytest.approx(-whole.fun, abs=1e-6)


def test_targets_may_be_two_sided():
    rng = np.random.default_rng(2)
    data = samples(rng.normal(size=(60, 3)), [20, 20, 20])
    base = target_levels.levels(data, np.zeros(3))[0]
    target = TargetLevels(base + np.array([0.4, -0.3, 0.1]), (AT_LEAST, AT_MOST, EXACTLY))
    assert feasibility.reach(data, target).feasible
    found = target_solver.solve(data, target)
    np.testing.assert_allclose(found.levels, target.levels, atol=1e-5)
    assert found.lam[0] > 0 > found.lam[1]


def test_what_is_met_already_asks_for_nothing():
    data = samples(np.random.default_rng(3).normal(size=(50, 2)), [25, 25])
    found = target_solver.solve(data, at_least(-5.0, -5.0))
    np.testing.assert_array_equal(found.lam, 0.0)
    assert found.kl == 0.0


def test_targets_at_the_edge_or_beyond_are_out_of_reach_and_say_how_far():
    data = samples(np.array([[0.0], [1.0], [0.0], [1.0]]), [2, 2])
    assert not feasibility.reach(data, at_least(1.0)).feasible
    beyond = feasibility.reach(data, at_least(1.5))
    assert beyond.share == pytest.approx(0.5)
    assert beyond.levels == pytest.approx([1.0])


def test_values_in_conflict_are_named():
    """Two values that are each other's opposite cannot both rise; a third has no part in it."""
    rng = np.random.default_rng(4)
    one, other = rng.normal(size=(2, 300))
    data = samples(np.column_stack([one, -one, other]), [30] * 10)
    base = target_levels.levels(data, np.zeros(3))[0]
    found = feasibility.reach(data, at_least(*(base + np.array([0.3, 0.3, 0.1]))))
    assert not found.feasible
    assert found.share == pytest.approx(0.0, abs=1e-6)
    assert found.pull[0] > 0
    assert found.pull[1] > 0
    assert found.pull[2] == pytest.approx(0.0, abs=1e-9)


def test_the_samples_needed_grow_with_the_targets_and_bring_it_into_reach():
    rng = np.random.default_rng(5)
    data = samples(rng.normal(size=(4000, 1)), [8] * 500)
    needed = [feasibility.reach(data, at_least(level)).samples_needed for level in (1.6, 2.0, 2.4)]
    assert 8 < needed[0] < needed[1] < needed[2]
    more = samples(rng.normal(size=(500 * round(needed[1]), 1)), [round(needed[1])] * 500)
    assert feasibility.reach(more, at_least(2.0)).share == pytest.approx(1.0, abs=0.05)


def test_fifty_values_and_one_prompt():
    rng = np.random.default_rng(6)
    data = samples(rng.normal(size=(2000, 50)))
    base = data.rewards.mean(axis=0)
    found = target_solver.solve(data, at_least(*(base + 0.05)))
    np.testing.assert_allclose(found.levels, base + 0.05, atol=1e-5)


def test_an_error_bar_covers_the_truth():
    """Levels at λ = 1 of normals, which have mean 1 then: 95 % of the intervals hold it, but for bias."""
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(200):
        level, se = target_levels.levels(samples(rng.normal(size=(4000, 1)), [200] * 20), np.array([1.0]))
        hits += abs(level[0] - 0.98) < 1.96 * se[0]
    assert 170 <= hits <= 200


@pytest.mark.parametrize(
    ("text", "value", "relation", "level"),
    [
        ("humor=2.1", "humor", AT_LEAST, 2.1),
        ("humor>=2", "humor", AT_LEAST, 2.0),
        ("humor=-0.5", "humor", AT_LEAST, -0.5),
        ("humor=+0.3", "humor", AT_LEAST, 1.3),
        ("humor<=+-0.3", "humor", AT_MOST, 0.7),
        ("humor==keep", "humor", EXACTLY, 1.0),
        ("humor=q75", "humor", AT_LEAST, 1.5),
        ("humor=q25", "humor", AT_LEAST, 1.0),
        ("humor<=q25", "humor", AT_MOST, 0.5),
        ("positive:prob=1e-3", "positive:prob", AT_LEAST, 0.001),
    ],
)
def test_a_target_is_read(text, value, relation, level):
    target = targets.parse(text)
    assert (target.value, target.relation) == (value, relation)
    assert target.of(1.0, np.array([0.0, 0.5, 1.0, 1.5, 2.0])) == pytest.approx(level)


@pytest.mark.parametrize(
    "text", ["humor", "humor=", "=1", "humor=q101", "humor=nan", "humor>1", "humor=more"]
)
def test_what_is_no_target_is_refused(text):
    with pytest.raises(ConfigError, match="--target"):
        targets.parse(text)


def test_the_order_of_prompts_changes_nothing():
    rng = np.random.default_rng(8)
    blocks = [rng.normal(size=(n, 2)) for n in (5, 9, 13)]
    target = at_least(0.2, 0.2)
    found = [
        target_solver.solve(
            samples(np.concatenate([blocks[i] for i in order]), [len(blocks[i]) for i in order]), target
        ).lam
        for order in itertools.permutations(range(3))
    ]
    np.testing.assert_allclose(found, found[0] * np.ones((6, 1)), rtol=1e-5)
