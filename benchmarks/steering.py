"""How far resampling, best-of-n, moves and steering come at the same budget, on a toy that can be listed.

python benchmarks/steering.py                    a table in Markdown: λσ = 1, 2, 3, 5; budgets of 32 to 512
python benchmarks/steering.py --picture FILE     and a picture

A budget is the samples or particles, and moves, per prompt, for one draw of each. Of each way: tokens
generated and rewards computed per prompt, those of prefixes among them; the rewards that its certificate
would add; the share of the way from p0's level to that of p_λ that one draw goes; and the total variation
of its law from p_λ. Means over prompts. The laws of resampling, best-of-n and moves are exact; those of
steering are counted in many populations, whose sampling error adds to their total variation.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from steering_particles import KINDS, calibrated, prefix_rewards, steer
from steering_picture import draw
from steering_toy import TOKENS, Floats, Moves, Toy, best, resampled, tilted, toy

STRENGTHS: Final = (1.0, 2.0, 3.0, 5.0)
BUDGETS: Final = (32, 64, 128, 256, 512)
STRONG: Final = 3.0  # λσ from which on particles are steered, too
CHECKED: Final = 0.1  # of the prompts have second chains: from 2λ, as many moves there, and as many at λ
CHECKS: Final = 4  # populations of those prompts, whose log Ẑ are compared


class Row(NamedTuple):
    """One way at one tilt and budget, per prompt; `extra` is what the certificate adds, in rewards."""

    strength: float
    budget: int
    way: str
    tokens: float
    rewards: float
    extra: float
    share: float
    distance: float


def measured(prompt: Toy, strength: float, law: Floats) -> tuple[float, float]:
    """The share of the way that a law [N] goes, and its total variation from p_λ."""
    target = tilted(prompt.p, strength * prompt.reward)
    share = float(law @ prompt.reward) / float(target @ prompt.reward)
    return share, float(np.abs(law - target).sum() / 2)


def suffix_tokens(prompt: Toy) -> Floats:
    """The tokens that a move of each completion [N] generates on average."""
    total = np.zeros(len(prompt.p))
    for depth in range(TOKENS):
        rest = prompt.expected(depth, prompt.lengths) - depth
        total[prompt.live[depth]] += rest[:, None]
    return total / prompt.lengths


def exact(prompt: Toy, strength: float, budgets: Sequence[int]) -> Iterator[Row]:
    """Resampling, best-of-n, and half of the budget in samples, half in moves of the draw."""
    log_weight = strength * prompt.reward
    kernel, cost = Moves(prompt, log_weight), suffix_tokens(prompt)
    mean = float(prompt.p @ prompt.lengths)
    for n in budgets:
        for way, law in (("resample", resampled), ("best of n", best)):
            found = measured(prompt, strength, law(prompt.p, log_weight, n))
            yield Row(strength, n, way, n * mean, n, 0.0, *found)
        law, tokens = resampled(prompt.p, log_weight, n // 2), n // 2 * mean
        for _ in range(n // 2):
            tokens += float(law @ cost)
            law = kernel(law)
        found = measured(prompt, strength, law)
        yield Row(strength, n, "resample, refine", tokens, n, CHECKED * n, *found)


def steered(
    prompts: list[Toy],
    others: list[Toy],
    kind: str,
    strength: float,
    budgets: Sequence[int],
    particles: int,
) -> Iterator[Row]:
    """Steering, alone and with half of the budget in moves, calibrated on other prompts' particles."""
    rng = np.random.default_rng(0)
    pools = [(other, prefix_rewards(other, kind, rng)) for other in others]
    for prompt in prompts:
        tables, kernel = prefix_rewards(prompt, kind, rng), Moves(prompt, strength * prompt.reward)
        cost, mean = suffix_tokens(prompt), float(prompt.p @ prompt.lengths)
        for budget in budgets:
            for moves in (0, budget // 2):
                n = budget - moves
                potentials = calibrated(pools, strength, n, rng)
                found = steer(prompt, tables, potentials, strength, (particles // n, n), rng)
                tokens, rewards, law = n * mean + found.tokens, n + found.rests + found.prefixes, found.law
                second = 2 * moves + rewards if moves else 0.0
                extra = CHECKED * (second + (CHECKS - 1) * rewards)
                for _ in range(moves):
                    tokens += float(law @ cost)
                    law = kernel(law)
                way = f"steer, {kind}" + (", refine" if moves else "")
                share, distance = measured(prompt, strength, law)
                yield Row(strength, budget, way, tokens, rewards + moves, extra, share, distance)


def averaged(rows: list[Row]) -> list[Row]:
    """The mean over prompts of each way, tilt and budget."""
    keys = dict.fromkeys(row[:3] for row in rows)
    return [Row(*key, *np.mean([row[3:] for row in rows if row[:3] == key], axis=0)) for key in keys]


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| λσ | budget | way | tokens | rewards | certificate | share | total variation |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        extra = f"{row.extra:.0f}" if row.extra else ""
        lines.append(
            f"| {row.strength:g} | {row.budget} | {row.way} | {row.tokens:.0f} | {row.rewards:.0f} | {extra} "
            f"| {row.share:.3f} | {row.distance:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table, write the rows and draw the picture, if asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--others", type=int, default=32, help="prompts to calibrate on")
    parser.add_argument(
        "--particles", type=int, default=400_000, help="in all populations of a steered prompt"
    )
    parser.add_argument("--strengths", type=float, nargs="+", default=STRENGTHS)
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS)
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS, help="of prefix rewards")
    parser.add_argument("--json", type=Path, help="a file for the rows")
    parser.add_argument("--picture", type=Path, help="a file for the picture")
    given = parser.parse_args()
    prompts = [toy(seed, ends=True) for seed in range(given.prompts)]
    others = [toy(1000 + seed, ends=True) for seed in range(given.others)]
    rows = list[Row]()
    for strength in given.strengths:
        rows += [row for prompt in prompts for row in exact(prompt, strength, given.budgets)]
        for kind in given.kinds if strength >= STRONG else ():
            rows += steered(prompts, others, kind, strength, given.budgets, given.particles)
    rows = averaged(rows)
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n", encoding="utf-8")
    if given.picture:
        draw([row._asdict() for row in rows], given.picture)


if __name__ == "__main__":
    main()
