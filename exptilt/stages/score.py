"""Score: one value's rewards for a shard's samples."""

import time
from typing import Final, Protocol

import numpy as np
import polars as pl

from exptilt import ids, pool, rewards, schemas
from exptilt.devices import on_one_of
from exptilt.errors import RewardError
from exptilt.refs import RewardsRef, SamplesRef
from exptilt.rewards import RewardSpec
from exptilt.stages.tables import Made, described, read

AT_ONCE: Final = 2  # scoring tasks on a device: one reads and writes while the other computes


class Workplace(Protocol):
    """Where scoring happens: devices, and a pool."""

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that models run on."""
        ...

    def path(self, stage: str, *parts: str) -> str:
        """The pool's path of `stage`."""
        ...


def score(at: Workplace, samples: SamplesRef, spec: RewardSpec) -> RewardsRef:
    """The rewards of one value for a shard's samples; RewardError where one is not finite."""
    began = time.perf_counter()
    done = [_score_part(at, samples, part, spec) for part in samples.parts]
    return RewardsRef(
        value=spec.value,
        parts=tuple(path for path, _ in done),
        cached=all(cached for _, cached in done),
        seconds=time.perf_counter() - began,
    )


def _score_part(at: Workplace, samples: SamplesRef, part: str, spec: RewardSpec) -> tuple[str, bool]:
    digest = described(part).files["samples"]["sha256"]
    key = ids.content_key({"samples": digest, "reward": spec.identity, "value": spec.value})
    path = at.path("rewards", key)
    _, cached = pool.compute_once(path, lambda: _reward(at, samples, part, spec))
    return path, cached


def _reward(at: Workplace, samples: SamplesRef, part: str, spec: RewardSpec) -> Made:
    prompts = read(samples.shard.prompts, "prompts").select("prompt_id", "prompt", "prompt_index")
    table = read(part, "samples").join(prompts, on="prompt_id", how="left", maintain_order="left")
    began = time.perf_counter()
    columns = [table[c].to_list() for c in ("prompt", "completion", "nll")]
    scored = on_one_of(at.devices, "score", AT_ONCE, lambda d: rewards.load(spec, d).score(*columns))
    _refuse_not_finite(scored.rewards, table, spec)
    rows = table.select("prompt_id", "sample_index").with_columns(
        value=pl.lit(spec.value), reward=pl.Series(scored.rewards, dtype=pl.Float64)
    )
    meta = {
        "reward": spec.described,
        "cut": scored.cut,
        "recomputed": scored.recomputed,
        "seconds": time.perf_counter() - began,
    }
    return {"rewards": rows.cast(schemas.REWARDS)}, meta


def _refuse_not_finite(numbers: rewards.Rewards, table: pl.DataFrame, spec: RewardSpec) -> None:
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        row = table.row(int(bad[0]), named=True)
        raise RewardError(
            f"value {spec.value!r} ({spec.model.name}) gave {numbers[bad[0]]} for prompt "
            f"{row['prompt_index']} ({row['prompt'][:60]!r}), sample {row['sample_index']}; "
            f"{len(bad)} such in this shard"
        )
