"""Prompts of a shard with their samples, as a person looks at them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from exptilt.outputs import training_tables
from exptilt.reports.shown import ShownPrompt, ShownSample

LOOKED_AT: Final = 200  # samples of a prompt, by weight


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTables:
    """What is known of a shard's prompts.

    Attributes:
        prompts: its prompts.
        samples: all samples, with a column for each value.
        lam: λ by value; empty without a tilt.
        draws: the samples kept; None where all are.
        diagnostics: how good the tilt is at each prompt; None without one.
        has_pairs: whether the data set has preference pairs.
        refined: the completions that the draws were moved to, with a column for each value; None without.
    """

    prompts: pl.DataFrame
    samples: pl.DataFrame
    lam: Mapping[str, float]
    draws: pl.DataFrame | None = None
    diagnostics: pl.DataFrame | None = None
    has_pairs: bool = False
    refined: pl.DataFrame | None = None

    @property
    def weighted(self) -> pl.DataFrame:
        """The samples with their weights, and log weights where there is a tilt."""
        if self.lam:
            return training_tables.with_weights(self.samples, self.lam)
        return self.samples.with_columns(weight=1 / pl.len().over("prompt_id"))


def shown(tables: ShardTables, prompt_ids: Collection[str]) -> Iterator[ShownPrompt]:
    """Those of a shard's prompts, in its order."""
    prompts, weighted = tables.prompts.filter(_is_in(prompt_ids)), tables.weighted.filter(_is_in(prompt_ids))
    rows_of = {str(name): rows for (name,), rows in weighted.group_by("prompt_id", maintain_order=True)}
    for prompt in prompts.to_dicts():
        name = prompt["prompt_id"]
        said = _of(tables.diagnostics, name).to_dicts() if tables.diagnostics is not None else []
        yield _prompt(prompt, rows_of[name], _kept(tables.draws, name), said[0] if said else {}, tables)


def _is_in(prompt_ids: Collection[str]) -> pl.Expr:
    return pl.col("prompt_id").is_in(list(prompt_ids))


def _of(table: pl.DataFrame, prompt_id: str) -> pl.DataFrame:
    return table.filter(pl.col("prompt_id") == prompt_id)


def _kept(draws: pl.DataFrame | None, prompt_id: str) -> dict[int, int] | None:
    """How often each sample was kept; None where all are."""
    return None if draws is None else dict(_of(draws, prompt_id)["sample_index"].value_counts().iter_rows())


def _prompt(
    prompt: dict[str, Any],
    rows: pl.DataFrame,
    kept: dict[int, int] | None,
    said: dict[str, Any],
    tables: ShardTables,
) -> ShownPrompt:
    ordered = rows.sort("weight", descending=True, maintain_order=True)
    roles = _roles(ordered) if tables.has_pairs else {}
    named = pl.col("sample_index").is_in([*(kept or {}), *roles])
    refined = (
        () if tables.refined is None else tuple(_refined(tables.refined, prompt["prompt_id"], tables.lam))
    )
    looked_at = ordered.filter((pl.int_range(pl.len()) < LOOKED_AT) | named)
    samples = [_sample(row, kept, roles, tables.lam) for row in looked_at.to_dicts()]
    if refined:
        samples = [replace(each, kept=0, role=each.role or "drawn" * bool(each.kept)) for each in samples]
    return ShownPrompt(
        prompt_id=prompt["prompt_id"],
        index=prompt["prompt_index"],
        turns=_turns(prompt),
        samples=tuple(samples),
        refined=refined,
        count=rows.height,
        reference=prompt["reference"],
        ess=said.get("ess"),
        needed=said.get("n_needed"),
        levels=_levels([*refined, *samples], tables.lam),
    )


def _turns(prompt: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    messages = prompt["messages"] or [{"role": "", "content": prompt["prompt"]}]
    return tuple((message["role"], message["content"]) for message in messages)


def _levels(samples: Sequence[ShownSample], values: Collection[str]) -> dict[str, float]:
    """Each value's mean over the completions kept."""
    drawn = [sample.numbers for sample in samples for _ in range(sample.kept)]
    return {value: sum(n[value] or 0.0 for n in drawn) / len(drawn) for value in values if drawn}


def _sample(
    row: dict[str, Any], kept: dict[int, int] | None, roles: Mapping[int, str], values: Collection[str]
) -> ShownSample:
    index = row["sample_index"]
    return ShownSample(
        completion=row["completion"],
        kept=kept.get(index, 0) if kept is not None else 1,
        weight=row["weight"],
        numbers={**{value: row[value] for value in values}, "log p0": row["logprob"]},
        role=roles.get(index, ""),
    )


def _refined(rows: pl.DataFrame, prompt_id: str, values: Collection[str]) -> Iterator[ShownSample]:
    """The completions that a prompt's draws were moved to; they have no weight among its samples."""
    for row in _of(rows, prompt_id).to_dicts():
        numbers = {**{value: row[value] for value in values}, "log p0": None}
        yield ShownSample(completion=row["completion"], kept=1, weight=None, numbers=numbers, role="refined")


def _roles(ordered: pl.DataFrame) -> dict[int, str]:
    """The chosen and the rejected sample, as training_tables.pairs takes them."""
    score = ordered["log_weight"]
    best, worst = (ordered.filter(score == end)["sample_index"].min() for end in (score.max(), score.min()))
    return {int(str(best)): "chosen", int(str(worst)): "rejected"} if best != worst else {}
