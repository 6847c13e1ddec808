"""Steer: samples as particles, resampled on the way by what the rewards of their beginnings promise.

The particles are the pool's own samples, each of which begins as a whole: a copy draws anew what stands
behind the block of tokens, the first copy keeps it. Potentials are fitted on the samples of the other prompts
of the pool's block, which no shard divides. P prompts, n particles of each, S = P·n, V values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from exptilt.config.settings import MCAligned
from exptilt.engines.base import Sample
from exptilt.rng import uniform
from exptilt.run import current
from exptilt.stages.beginnings import Beginning, ends
from exptilt.stages.chain_states import COLUMNS, Kernel, States, prefixes, proposed, table_of
from exptilt.stages.resample import picks_of
from exptilt.storage import keys, schemas
from exptilt.tilting import calibration, steering
from exptilt.tilting.calibration import Potential
from exptilt.tilting.resampling import Picks
from exptilt.tilting.weights import Floats

RULES: Final = "steer-1"  # others are other draws


@dataclass(slots=True, kw_only=True)
class Particles:
    """The particles of a block's prompts, prompt by prompt.

    Attributes:
        ids: the prompts [P].
        samples: the completions [S].
        rewards: theirs, [S, V].
        roots: the index of the sample that each began as, [S].
        known: the rewards [V] of beginnings that were scored.
        tokens: that were drawn anew.
    """

    ids: list[str]
    samples: list[Sample]
    rewards: Floats
    roots: Picks
    known: dict[Beginning, Floats]
    tokens: int = 0

    @property
    def n(self) -> int:
        """Particles of each prompt."""
        return len(self.samples) // len(self.ids)

    def prompt_id(self, place: int) -> str:
        """The prompt of a particle."""
        return self.ids[place // self.n]


def key_of(kernel: Kernel) -> dict[str, Any]:
    """What steered draws depend on beside the samples and rewards that they begin as."""
    recipe = kernel.recipe
    config = recipe.config
    assert isinstance(config, MCAligned)
    assert recipe.p0
    return {
        "rules": RULES,
        "p0": recipe.p0.identity,
        "seed": config.seed,
        "n": config.nsamples,
        "ndraws": config.ndraws,
        "resampler": config.resampler,
        "block_tokens": config.block_tokens,
        "lam": list(recipe.lam.values()),
        "chains": kernel.name,
        "rewards": [[spec.value, spec.identity] for spec in recipe.rewards],
    }


def steered(
    kernel: Kernel,
    table: pl.DataFrame,
    known: dict[Beginning, Floats],
    prompt_ids: Sequence[str],
    population: int = 0,
) -> tuple[dict[str, pl.DataFrame], int]:
    """Steered draws of some prompts of a block, and the tokens that they took.

    Args:
        kernel: the recipe and the prompts; its name tells the seeds of populations apart.
        table: all samples of the block with tokens and rewards, prompt by prompt, equally many of each.
        known: the rewards [V] of these samples' beginnings; those of others are added.
        prompt_ids: the prompts to steer; the others serve to calibrate.
        population: 0 grows from the samples themselves, others from as many that are drawn for them.

    Returns:
        The tables `chains` and `populations` of an entry, and how many tokens were drawn.
    """
    pool = _particles(table, known)
    particles = _particles(table.filter(pl.col("prompt_id").is_in(prompt_ids)), known)
    if population:
        _draw_anew(kernel, particles, list(range(len(particles.samples))), "begin", 0)
    log_weight, populations = _grown(kernel, particles, pool)
    return {"chains": _drawn(kernel, particles, log_weight), "populations": populations}, particles.tokens


def _particles(table: pl.DataFrame, known: dict[Beginning, Floats]) -> Particles:
    return Particles(
        ids=table["prompt_id"].unique(maintain_order=True).to_list(),
        samples=[Sample(**row, logprob=None) for row in table.select(COLUMNS).iter_rows(named=True)],
        rewards=np.array(table["rewards"].to_list(), dtype=np.float64).reshape(table.height, -1),
        roots=table["sample_index"].to_numpy().astype(np.int32),
        known=known,
    )


def _grown(kernel: Kernel, particles: Particles, pool: Particles) -> tuple[Floats, pl.DataFrame]:
    """Let the particles grow, block by block: their log weights [P, n], and the table `populations`."""
    shape, lam = (len(particles.ids), particles.n), kernel.recipe.lam_vector
    population, notes = steering.start(*shape), list[pl.DataFrame]()
    for place, end in enumerate(ends(kernel)):
        current().check()
        potentials = _potentials(kernel, particles.ids, pool, end)
        line = _column([p.intercept for p in potentials]), _column([p.slope for p in potentials])
        reward, live = _rewards(kernel, particles, end)
        log_psi = steering.log_potentials(reward.reshape(shape), ~live.reshape(shape), *line)
        numbers = uniform(_seeds(kernel, particles.ids, f"{place}"), 0, 0)
        population, ancestors = steering.resample(population, log_psi, numbers, line[1] != 0)
        _copy(kernel, particles, ancestors, place, end)
        notes.append(_note(particles.ids, end, live.reshape(shape), potentials, ancestors))
    log_psi = (particles.rewards @ lam).reshape(shape)
    log_z = pl.DataFrame({"prompt_id": particles.ids, "log_z": steering.log_evidence(population, log_psi)})
    empty = pl.DataFrame(schema=schemas.POPULATIONS).drop("log_z")
    table = pl.concat([empty, *notes]).join(log_z, on="prompt_id", maintain_order="left")
    return steering.log_weights(population, log_psi), table.cast(schemas.POPULATIONS)


def _potentials(kernel: Kernel, ids: Sequence[str], pool: Particles, end: int) -> list[Potential]:
    """The potential of each prompt, from the samples of the others that go on behind `end`."""
    reward, live = _rewards(kernel, pool, end)
    whole, of = pool.rewards @ kernel.recipe.lam_vector, np.repeat(np.arange(len(pool.ids)), pool.n)
    others = [live & (of != pool.ids.index(name)) for name in ids]
    return [calibration.fit(reward[rows], whole[rows], of[rows]) for rows in others]


def _rewards(kernel: Kernel, particles: Particles, end: int) -> tuple[Floats, steering.Flags]:
    """Σ λ r of the first `end` tokens where a completion goes on, else of the whole, and which go on, [S]."""
    tokens = [sample.tokens or [] for sample in particles.samples]
    live = np.array([len(each) > end for each in tokens])
    names = {i: (particles.prompt_id(i), tuple(tokens[i][:end])) for i in np.flatnonzero(live).tolist()}
    new = [name for name in dict.fromkeys(names.values()) if name not in particles.known]
    if new:
        _, rewards = prefixes(kernel, [name for name, _ in new], [list(begun) for _, begun in new])
        particles.known |= zip(new, rewards, strict=True)
    rewards = particles.rewards.copy()
    for i, name in names.items():
        rewards[i] = particles.known[name]
    return rewards @ kernel.recipe.lam_vector, live


def _copy(kernel: Kernel, particles: Particles, ancestors: Picks, place: int, end: int) -> None:
    """Let the ancestors [P, n] take the particles' places; the rest of a copy but the first is drawn anew."""
    first = np.arange(len(particles.ids), dtype=np.int64)[:, None] * particles.n
    taken = (ancestors + first).ravel()
    seen, again = set[int](), list[int]()
    for i, ancestor in enumerate(taken.tolist()):
        if ancestor in seen and len(particles.samples[ancestor].tokens or []) > end:
            again.append(i)
        seen.add(ancestor)
    particles.samples = [particles.samples[ancestor] for ancestor in taken.tolist()]
    particles.rewards, particles.roots = particles.rewards[taken], particles.roots[taken]
    if again:
        _draw_anew(kernel, particles, again, f"{place}", end)


def _draw_anew(kernel: Kernel, particles: Particles, places: list[int], block: str, end: int) -> None:
    """Draw what stands behind `end` anew at some places; each has a seed of its own."""
    prompt_ids = [particles.prompt_id(i) for i in places]
    begun = [(particles.samples[i].tokens or [])[:end] for i in places]
    names = [f"steer/{block}/{i % particles.n}" for i in places]
    seed = kernel.recipe.config.seed
    seeds = [
        keys.seed_for(seed, p, f"{kernel.name}/{name}") for p, name in zip(prompt_ids, names, strict=True)
    ]
    samples, rewards = proposed(kernel, prompt_ids, begun, np.array(seeds))
    for i, sample in zip(places, samples, strict=True):
        particles.samples[i] = sample
        particles.tokens += len(sample.tokens or []) - end
    particles.rewards[places] = rewards


def _drawn(kernel: Kernel, particles: Particles, log_weight: Floats) -> pl.DataFrame:
    """The draws by the last weights, as states that moves begin at."""
    picks = picks_of(kernel.recipe, particles.ids, log_weight)
    prompt, draw = np.nonzero(picks >= 0)
    rows = prompt * particles.n + picks[prompt, draw]
    reward = (particles.rewards @ kernel.recipe.lam_vector)[rows]
    places = zip(prompt.tolist(), draw.tolist(), particles.roots[rows].tolist(), strict=True)
    states = States(
        called=[kernel.name] * len(rows),
        lam=np.tile(kernel.recipe.lam_vector, (len(rows), 1)),
        names=[(particles.ids[p], d, root) for p, d, root in places],
        samples=[particles.samples[row] for row in rows],
        rewards=particles.rewards[rows],
        log_weight=reward,
        accepted=np.zeros(len(rows), dtype=np.int64),
        trace=[reward],
    )
    return table_of(states)


def _note(
    ids: list[str], end: int, live: steering.Flags, potentials: Sequence[Potential], ancestors: Picks
) -> pl.DataFrame:
    table = {
        "prompt_id": ids,
        "block_end": [end] * len(ids),
        "live": live.sum(axis=1),
        "intercept": [p.intercept for p in potentials],
        "slope": [p.slope for p in potentials],
        "explained": [p.explained for p in potentials],
        "copies": [len(row) - len(set(row)) for row in ancestors.tolist()],
    }
    return pl.DataFrame(table, schema={name: schemas.POPULATIONS[name] for name in table})


def _seeds(kernel: Kernel, ids: Sequence[str], name: str) -> Any:
    return np.array([keys.seed_for(kernel.recipe.config.seed, p, f"{kernel.name}/steer/{name}") for p in ids])


def _column(numbers: Sequence[float]) -> Floats:
    return np.array(numbers, dtype=np.float64)
