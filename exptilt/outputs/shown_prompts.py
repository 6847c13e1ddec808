"""The prompts that a data set's page shows: some by lot, and those furthest from sound; and what its pictures
are of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from exptilt.outputs import training_tables
from exptilt.reports.shown import ShownPrompt, ShownSample
from exptilt.storage import keys

PICTURED: Final = 2_000  # prompts by lot, whose samples the pictures are of
LOOKED_AT: Final = 200  # samples of a prompt, by weight
LOTS: Final = 2**63
Shown = tuple[float, ShownPrompt]


@dataclass(slots=True, kw_only=True)
class PagePrompts:
    """Enters shard after shard; memory holds the prompts chosen so far.

    Attributes:
        count: prompts in each list.
        seed: the run's, which the lots depend on.
        share: of the prompts that the pictures are of.
        lam: λ by value; empty for a run that does not tilt.
        has_pairs: whether the data set has preference pairs.
        by_lot: the prompts of smallest lot, in order.
        worst: those that lack most samples, worst first.
        pictured: rewards and weights of the samples that pictures are of.
    """

    count: int
    seed: int
    share: float
    lam: Mapping[str, float]
    has_pairs: bool
    by_lot: list[Shown] = field(default_factory=list)
    worst: list[Shown] = field(default_factory=list)
    pictured: list[pl.DataFrame] = field(default_factory=list)

    def enter(
        self,
        prompts: pl.DataFrame,
        samples: pl.DataFrame,
        draws: pl.DataFrame | None = None,
        diagnostics: pl.DataFrame | None = None,
    ) -> None:
        """Add a shard.

        Args:
            prompts: its prompts.
            samples: all samples with a column for each value.
            draws: those kept; None where all are.
            diagnostics: how good the tilt is at each prompt; None without one.
        """
        lots = {name: keys.seed_for(self.seed, name, "page") / LOTS for name in prompts["prompt_id"]}
        weighted = training_tables.with_weights(samples, self.lam) if self.lam else _even(samples)
        if self.lam:
            mine = [name for name, lot in lots.items() if lot < self.share]
            self.pictured.append(
                weighted.filter(pl.col("prompt_id").is_in(mine)).select("prompt_id", "weight", *self.lam)
            )
        lacking = _lacking(diagnostics) if diagnostics is not None else {}
        chosen = {*_first(lots, self.count), *_first({k: -v for k, v in lacking.items()}, self.count)}
        shown = self._shown(prompts.filter(pl.col("prompt_id").is_in(chosen)), weighted, draws, diagnostics)
        for prompt in shown:
            self.by_lot.append((lots[prompt.prompt_id], prompt))
            if prompt.prompt_id in lacking:
                self.worst.append((-lacking[prompt.prompt_id], prompt))
        self.by_lot, self.worst = (_best(each, self.count) for each in (self.by_lot, self.worst))

    def _shown(
        self,
        prompts: pl.DataFrame,
        samples: pl.DataFrame,
        draws: pl.DataFrame | None,
        diagnostics: pl.DataFrame | None,
    ) -> Iterator[ShownPrompt]:
        by_prompt = samples.filter(pl.col("prompt_id").is_in(prompts["prompt_id"].to_list()))
        rows_of = {str(name): rows for (name,), rows in by_prompt.group_by("prompt_id")}
        for prompt in prompts.to_dicts():
            mine = pl.col("prompt_id") == prompt["prompt_id"]
            kept = draws.filter(mine)["sample_index"].value_counts() if draws is not None else None
            said = diagnostics.filter(mine).row(0, named=True) if diagnostics is not None else {}
            times = dict(kept.iter_rows()) if kept is not None else None
            yield self._prompt(prompt, rows_of[prompt["prompt_id"]], times, said)

    def _prompt(
        self, prompt: dict[str, Any], rows: pl.DataFrame, kept: dict[int, int] | None, said: dict[str, Any]
    ) -> ShownPrompt:
        ordered = rows.sort("weight", descending=True, maintain_order=True)
        roles = _roles(ordered) if self.has_pairs else {}
        named = pl.col("sample_index").is_in([*(kept or {}), *roles])
        looked_at = ordered.with_row_index("rank").filter((pl.col("rank") < LOOKED_AT) | named)
        samples = [self._sample(row, kept, roles) for row in looked_at.to_dicts()]
        drawn = [sample for sample in samples for _ in range(sample.kept)]
        return ShownPrompt(
            prompt_id=prompt["prompt_id"],
            index=prompt["prompt_index"],
            turns=tuple((m["role"], m["content"]) for m in prompt["messages"] or ())
            or (("", prompt["prompt"]),),
            samples=tuple(samples),
            count=rows.height,
            reference=prompt["reference"],
            ess=said.get("ess"),
            needed=said.get("n_needed"),
            levels={v: sum(s.numbers[v] or 0.0 for s in drawn) / len(drawn) for v in self.lam if drawn},
        )

    def _sample(
        self, row: dict[str, Any], kept: dict[int, int] | None, roles: Mapping[int, str]
    ) -> ShownSample:
        index = row["sample_index"]
        return ShownSample(
            completion=row["completion"],
            kept=kept.get(index, 0) if kept is not None else 1,
            weight=row["weight"],
            numbers={**{value: row[value] for value in self.lam}, "log p0": row["logprob"]},
            role=roles.get(index, ""),
        )


def _even(samples: pl.DataFrame) -> pl.DataFrame:
    return samples.with_columns(weight=1 / pl.len().over("prompt_id"))


def _roles(ordered: pl.DataFrame) -> dict[int, str]:
    """The places of the chosen and the rejected sample, as training_tables.pairs takes them."""
    score, index = ordered["log_weight"], ordered["sample_index"]
    best, worst = (ordered.filter(score == end)["sample_index"].min() for end in (score.max(), score.min()))
    return {int(str(best)): "chosen", int(str(worst)): "rejected"} if len(index) and best != worst else {}


def _lacking(diagnostics: pl.DataFrame) -> dict[str, float]:
    """How many times the samples that a prompt has it needs."""
    ratio = diagnostics.select("prompt_id", pl.col("n_needed") / pl.col("n"))
    return {str(name): float(times) for name, times in ratio.iter_rows()}


def _first(order: Mapping[str, float], count: int) -> Sequence[str]:
    return sorted(order, key=order.__getitem__)[:count]


def _best(found: list[Shown], count: int) -> list[Shown]:
    return sorted(found, key=lambda each: (each[0], each[1].index))[:count]
