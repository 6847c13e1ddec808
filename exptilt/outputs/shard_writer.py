"""The tables of a data set, written shard after shard, and what they add up to."""

from typing import Any

import polars as pl

from exptilt.config.settings import MCAligned
from exptilt.data.texts import TEXT
from exptilt.outputs import refined_rows, training_tables
from exptilt.outputs.chain_totals import ChainTotals
from exptilt.outputs.page_prompts import PICTURED, PagePrompts
from exptilt.outputs.refined_rows import CHAIN
from exptilt.outputs.shown_prompts import ShardTables
from exptilt.planning.plan import Plan
from exptilt.reports.totals import Totals
from exptilt.stages.ensemble import spread_columns
from exptilt.stages.failures import MissingPrompt
from exptilt.stages.references import Drawn, DrawsRef, SamplesRef
from exptilt.stages.tables import draws_of, order_of, prompts_of, rewards_of, samples_of
from exptilt.storage import filesystem
from exptilt.storage.schemas import SAMPLE


class ShardWriter:
    """Enters shard after shard: writes its tables if asked to, keeps the totals that the summary needs."""

    def __init__(self, plan: Plan, folder: str, missing: list[MissingPrompt], writes: bool) -> None:
        self.plan, self.folder, self.missing, self.writes = plan, folder, missing, writes
        self.files: dict[str, dict[str, Any]] = {}
        self.totals, self.page = Totals(plan.recipe), _page_prompts(plan)
        self.chains = ChainTotals(getattr(plan.recipe.config, "refine", 0))
        self.samples = self.kept = self.pairs = 0
        self.shards: list[Drawn] = []

    def enter(self, shard: Drawn) -> list[dict[str, Any]]:
        """Write the shard's tables, one after the other; its records, in order."""
        samples, n = shard.samples, self.plan.recipe.config.nsamples
        prompts = self._write("prompts", samples, prompts_of(samples.shard))
        order = order_of(prompts, samples, n)
        rows = self._write("samples", samples, samples_of(samples, order))
        self.samples += rows.height
        rows = rows.with_columns(perplexity=-pl.col("nll"))
        columns = [*_shown(prompts), "perplexity"]
        if not isinstance(shard, DrawsRef):
            self.page.enter(ShardTables(prompts=prompts, samples=rows, lam={}))
        else:
            rows = self._tilted(shard, rows, prompts, order)
            moved = ["moves", "accepted"] if shard.refined else []
            columns += [*(scored.value for scored in shard.rewards), "weight", "ess", *moved]
        rows = _with_prompts(rows, prompts)
        rows = rows.with_columns(generated=TEXT, messages=training_tables.answered("completion"))
        kept = self._write("records", samples, rows.select("prompt_id", *dict.fromkeys(columns)))
        self.shards.append(shard)
        self.missing += samples.missing
        self.kept += kept.height
        return kept.drop("prompt_id").to_dicts()

    def _tilted(
        self, shard: DrawsRef, rows: pl.DataFrame, prompts: pl.DataFrame, order: pl.DataFrame
    ) -> pl.DataFrame:
        """The drawn rows with their rewards, weight and ess; the refined ones where the run refines."""
        config, samples = self.plan.recipe.config, shard.samples
        assert isinstance(config, MCAligned)
        draws = self._write("draws", samples, draws_of(shard, "draws"))
        refined = self._refined(shard)
        diagnostics = self._write("diagnostics", samples, self._diagnostics(shard))
        self.totals.enter(diagnostics, self._levels(shard, refined))
        for scored in shard.rewards:
            table = self._write(f"rewards/{scored.value}", samples, rewards_of(scored, order))
            numbers = table.select(*SAMPLE, pl.col("reward").alias(scored.value))
            rows = rows.drop(scored.value, strict=False).join(numbers, on=SAMPLE, maintain_order="left")
        has_pairs = training_tables.has_pairs(config.export)
        self.page.enter(
            ShardTables(
                prompts=prompts,
                samples=rows,
                lam=self.plan.recipe.lam,
                draws=draws,
                diagnostics=diagnostics,
                has_pairs=has_pairs,
                refined=refined,
            )
        )
        if not config.export:
            rows = rows.join(draws, on=SAMPLE, how="semi")
        if refined is None:
            drawn = draws.join(rows, on=SAMPLE, maintain_order="left")
        else:
            drawn = refined.join(draws.select(*CHAIN, "weight"), on=CHAIN, maintain_order="left")
        drawn = drawn.join(diagnostics, on="prompt_id", maintain_order="left")
        for name, table in self._exports(rows, drawn, prompts).items():
            self._write(name, samples, table)
        return drawn

    def _refined(self, shard: DrawsRef) -> pl.DataFrame | None:
        """The shard's refined completions, written; None where the run does not refine."""
        config = self.plan.recipe.config
        if shard.refined is None:
            return None
        assert isinstance(config, MCAligned)
        rows = self._write("refined", shard.samples, refined_rows.rows_of(shard, config.refine))
        return rows if "perplexity" in rows.columns else rows.with_columns(perplexity=-pl.col("nll"))

    def _levels(self, shard: DrawsRef, refined: pl.DataFrame | None) -> pl.DataFrame:
        """The shard's levels, written; with those of its refined completions where there are any."""
        levels = self._write("levels", shard.samples, draws_of(shard, "levels"))
        if refined is None:
            return levels
        self.chains.enter(shard, levels, self.plan.recipe.lam)
        return refined_rows.with_levels(levels, refined)

    def _diagnostics(self, shard: DrawsRef) -> pl.DataFrame:
        """The shard's diagnostics with two columns for each ensemble."""
        table = draws_of(shard, "diagnostics")
        for spec in self.plan.recipe.rewards:
            if spec.members:
                before, after = spread_columns(spec.value)
                mine = draws_of(shard, "spreads").filter(pl.col("value") == spec.value)
                mine = mine.select("prompt_id", pl.col("before").alias(before), pl.col("after").alias(after))
                table = table.join(mine, on="prompt_id", maintain_order="left")
        return table

    def _exports(self, rows: pl.DataFrame, drawn: pl.DataFrame, prompts: pl.DataFrame) -> dict[str, Any]:
        """The tables for training that were asked for."""
        recipe = self.plan.recipe
        assert isinstance(recipe.config, MCAligned)
        if not recipe.config.export:
            return {}
        values = [spec.value for spec in recipe.rewards]
        columns = ["prompt_id", "sample_index", "prompt", "messages", "completion", *values]
        weighted = training_tables.with_weights(_with_prompts(rows, prompts).select(columns), recipe.lam)
        kept = _with_prompts(drawn, prompts)
        made = training_tables.tables(recipe.config.export, weighted, kept, recipe.config.min_margin)
        self.pairs += made["pairs-chat"].height if "pairs-chat" in made else 0
        return made

    def _write(self, name: str, samples: SamplesRef, table: pl.DataFrame) -> pl.DataFrame:
        """Write a shard's table, and give it back."""
        if not self.writes:
            return table
        shard = samples.shard
        path = f"{name}/{shard.index:05d}-of-{shard.of:05d}.parquet"
        data = filesystem.parquet_bytes(table)
        filesystem.write_bytes(filesystem.join(self.folder, path), data)
        self.files[path] = {
            "rows": table.height,
            "bytes": len(data),
            "sha256": filesystem.sha256(data),
        }
        return table


def _page_prompts(plan: Plan) -> PagePrompts:
    config = plan.recipe.config
    return PagePrompts(count=config.page_prompts, seed=config.seed, share=PICTURED / plan.n_prompts)


def _shown(prompts: pl.DataFrame) -> list[str]:
    """The columns of a record that hold its texts."""
    in_chat = prompts["messages"].is_not_null().any()
    reference = [] if prompts["reference"].is_null().all() else ["reference"]
    return ["prompt", "completion", "messages" if in_chat else "generated", *reference]


def _with_prompts(rows: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    return rows.join(prompts, on="prompt_id", maintain_order="left")
