"""What comes out: the JSON records, and beside them a folder that load_dataset and polars open.

The folder's manifest.json is written last: while it is missing, the folder is not whole.
"""

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

import polars as pl

from exptilt.config.settings import MCAligned
from exptilt.data import records
from exptilt.data.texts import TEXT
from exptilt.engines import registry
from exptilt.errors import ShardsFailed
from exptilt.models import reference
from exptilt.outputs import merged, training_tables
from exptilt.planning.plan import Plan
from exptilt.reports import dataset_card, figures, web_page
from exptilt.reports.provenance import made_with
from exptilt.reports.summary import Summary
from exptilt.reports.totals import Totals
from exptilt.run import in_its_run
from exptilt.stages.ensemble import spread_columns
from exptilt.stages.failures import AllMissing, MissingPrompt
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import DrawsRef, SamplesRef, flat
from exptilt.stages.tables import described, draws_of, order_of, prompts_of, rewards_of, samples_of
from exptilt.storage import cleanup, filesystem, keys, lease, pool

Shard = SamplesRef | DrawsRef | AllMissing  # the last where all its prompts are left out
Made = SamplesRef | DrawsRef
SAMPLE: Final = ["prompt_id", "sample_index"]


def stem(plan: Plan) -> str:
    """The outputs' name under the save directory, as the research code spelled it."""
    config = plan.recipe.config
    if not isinstance(config, MCAligned):
        return named(plan, "")
    values = "all" if config.value == ("all",) else ",".join(s.value for s in plan.recipe.rewards)
    return named(plan, f"_lam={','.join(f'{lam:.3f}' for lam in plan.recipe.lam.values())}_val={values}")


def named(plan: Plan, what: str) -> str:
    """The name of an output of `plan`; those of a range of prompts lie under temp/."""
    config, name = plan.recipe.config, plan.recipe.name + what
    if config.start or config.end is not None:
        end = config.end if config.end is not None else config.start + plan.n_prompts
        return f"temp/{name}_{config.start}to{end}"
    return name


@in_its_run
def merge(plan: Plan, shards: Sequence[Shard]) -> Summary:
    """Write records and data set of all shards, in order, one shard in memory at a time.

    Of runs that share the storage the first writes the outputs, the others find them. Raises ShardsFailed
    where nothing is left to write.
    """
    made = [shard for shard in shards if not isinstance(shard, AllMissing)]
    missing = [prompt for shard in shards if isinstance(shard, AllMissing) for prompt in shard.missing]
    if not made:
        raise ShardsFailed(f"every prompt failed; the first: {missing[0]}")
    name, root = stem(plan), plan.recipe.config.save_directory
    with lease.held(f"{pool.place(root, 'merging', keys.content_key(name))}.lease"):
        return _merge(plan, made, missing, filesystem.join(root, name))


def _merge(plan: Plan, made: Sequence[Made], missing: list[MissingPrompt], folder: str) -> Summary:
    path = f"{folder}.json"
    ordered = sorted(made, key=lambda s: _samples(s).shard.index)
    of = merged.made_of(plan, ordered, missing)
    books = _Books(plan, folder, missing, writes=not merged.is_there(folder, of))
    rows = (row for shard in ordered for row in books.enter(shard))
    if books.writes:
        filesystem.remove(filesystem.join(folder, pool.MANIFEST))
        with filesystem.writing(path) as f:
            records.write_json(f, rows)
    else:
        deque(rows, maxlen=0)  # for the totals alone
    summary = books.summary(path)
    if books.writes:
        _finish(plan, books, summary, of)
    cleanup.sweep(_places(plan, books))
    return summary


def _places(plan: Plan, books: "_Books") -> Iterator[str]:
    """Every folder that a run of `plan` writes to."""
    root = plan.recipe.config.save_directory
    yield from (root, books.folder, books.folder.rpartition("/")[0])
    yield from (pool.place(root, stage) for stage in ("claims", "merging"))
    yield from (filesystem.join(books.folder, file).rpartition("/")[0] for file in books.files)
    for shard in books.shards:
        samples = _samples(shard)
        scored = (
            [] if isinstance(shard, SamplesRef) else [part for r in shard.rewards for part in flat(r.parts)]
        )
        drawn = [] if isinstance(shard, SamplesRef) else shard.paths
        for path in (samples.shard.prompts, *flat(samples.parts), *scored, *drawn):
            yield from (path, path.rpartition("/")[0])


def _samples(shard: Made) -> SamplesRef:
    return shard.samples if isinstance(shard, DrawsRef) else shard


class _Books:
    """Enters shard after shard: writes its tables if asked to, keeps the totals that the summary needs."""

    def __init__(self, plan: Plan, folder: str, missing: list[MissingPrompt], writes: bool) -> None:
        self.plan, self.folder, self.missing, self.writes = plan, folder, missing, writes
        self.files: dict[str, dict[str, Any]] = {}
        self.totals = Totals(plan.recipe)
        self.samples = self.kept = self.pairs = 0
        self.shards: list[Made] = []

    def enter(self, shard: Made) -> list[dict[str, Any]]:
        """Write the shard's tables, one after the other; its records, in order."""
        samples, n = _samples(shard), self.plan.recipe.config.nsamples
        prompts = self._write("prompts", samples, prompts_of(samples.shard))
        order = order_of(prompts, samples, n)
        rows = self._write("samples", samples, samples_of(samples, order))
        self.samples += rows.height
        rows = rows.with_columns(perplexity=-pl.col("nll"))
        columns = [*_shown(prompts), "perplexity"]
        if isinstance(shard, DrawsRef):
            rows = self._tilted(shard, rows, prompts, order)
            columns += [*(scored.value for scored in shard.rewards), "weight", "ess"]
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
        """The drawn rows with their rewards, weight and ess."""
        config, samples = self.plan.recipe.config, shard.samples
        assert isinstance(config, MCAligned)
        draws, levels = (self._write(name, samples, draws_of(shard, name)) for name in ("draws", "levels"))
        diagnostics = self._write("diagnostics", samples, self._diagnostics(shard))
        self.totals.enter(diagnostics, levels)
        if not config.export:
            rows = rows.join(draws, on=SAMPLE, how="semi")
        for scored in shard.rewards:
            table = self._write(f"rewards/{scored.value}", samples, rewards_of(scored, order))
            numbers = table.select(*SAMPLE, pl.col("reward").alias(scored.value))
            rows = rows.drop(scored.value, strict=False).join(numbers, on=SAMPLE, maintain_order="left")
        drawn = draws.join(rows, on=SAMPLE, maintain_order="left")
        drawn = drawn.join(diagnostics, on="prompt_id", maintain_order="left")
        for name, table in self._exports(rows, drawn, prompts).items():
            self._write(name, samples, table)
        return drawn

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

    def summary(self, path: str) -> Summary:
        """The totals, once every shard is entered."""
        plan, drawn = self.plan, [_samples(s) for s in self.shards]
        exports = getattr(plan.recipe.config, "export", ())
        summary = Summary(
            title=stem(plan),
            prompts=plan.n_prompts - len(self.missing),
            missing=sorted(self.missing, key=lambda prompt: prompt.prompt_index),
            samples=self.samples,
            kept=self.kept,
            pairs=self.pairs if training_tables.has_pairs(exports) else None,
            n=plan.recipe.config.nsamples,
            tokens=sum(s.tokens for s in drawn),
            generate_seconds=sum(s.seconds for s in drawn),
            shards=len(drawn),
            reused={"samples": sum(s.cached for s in drawn)},
            skipped=dict(Counter(plan.skipped.values())),
            truncated=len(plan.truncated),
            rescored=self._noted("rescored"),
            cut={"nll": self._noted("cut")},
            retries=plan.run.retries,
            json=path,
            folder=self.folder,
        )
        if plan.recipe.rewards:
            self._add_tilt(summary)
        return summary

    def _noted(self, what: str) -> int:
        """A count that the samples' entries note, in all."""
        parts = (part for shard in self.shards for part in flat(_samples(shard).parts))
        return sum(described(part).meta.get(what, 0) for part in parts)

    def _add_tilt(self, summary: Summary) -> None:
        tilted = [s for s in self.shards if isinstance(s, DrawsRef)]
        summary.values, summary.quality = self.totals.changes(), self.totals.quality()
        summary.spreads = self.totals.spreads()
        summary.score_seconds = sum(r.seconds for s in tilted for r in s.rewards)
        for i, spec in enumerate(self.plan.recipe.rewards):
            mine = [s.rewards[i] for s in tilted]
            summary.reused[spec.value] = sum(ref.cached for ref in mine)
            summary.cut[spec.value] = sum(
                described(p).meta.get("cut", 0) for ref in mine for p in flat(ref.parts)
            )


def _shown(prompts: pl.DataFrame) -> list[str]:
    """The columns of a record that hold its texts."""
    in_chat = prompts["messages"].is_not_null().any()
    reference = [] if prompts["reference"].is_null().all() else ["reference"]
    return ["prompt", "completion", "messages" if in_chat else "generated", *reference]


def _with_prompts(rows: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    return rows.join(prompts, on="prompt_id", maintain_order="left")


def _finish(plan: Plan, books: _Books, summary: Summary, made_of: str) -> None:
    """The card, then the manifest that makes the folder count, then away with files of before."""
    manifest = {
        **provenance(plan),
        **_noted(books.shards),
        "skipped_prompts": {str(index): why for index, why in plan.skipped.items()},
        "truncated_prompts": list(plan.truncated),
        "summary": {**asdict(summary), "verdict": summary.sentence},
        "files": books.files,
        merged.MADE_OF: made_of,
        merged.RECORDS: filesystem.digest(summary.json),
        merged.PAGES: ["README.md", *(["index.html"] if summary.quality else [])],
    }
    text = dataset_card.render(manifest, summary, sorted({p.partition("/")[0] for p in books.files}))
    filesystem.write_bytes(filesystem.join(books.folder, "README.md"), text.encode())
    if summary.quality:
        picture = figures.svg(figures.certificate(summary, *books.totals.bars()))
        filesystem.write_bytes(filesystem.join(books.folder, "index.html"), web_page.tilted(summary, picture))
    filesystem.write_json(filesystem.join(books.folder, pool.MANIFEST), manifest)
    _remove_stale(books)


def provenance(plan: Plan) -> dict[str, Any]:
    """What a manifest says of how its data were made."""
    return {
        "configuration": plan.recipe.config.model_dump(mode="json"),
        "p0": _described(plan.recipe),
        "rewards": [spec.described for spec in plan.recipe.rewards],
        "made_with": made_with(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _described(recipe: Recipe) -> dict[str, Any]:
    """p0 as the manifest has it; it is not known of a file's texts."""
    if recipe.p0 is None:
        return {"name": f"unknown (texts of {recipe.name})"}
    is_local = registry.capabilities(recipe.p0.model).is_local
    device = ", ".join(recipe.devices) if is_local else reference.SERVED
    p0 = recipe.p0
    return {**p0.identity, "ends": list(p0.ends), "name": p0.model.name, "device": device}


def _noted(shards: Sequence[Made]) -> dict[str, Any]:
    """What engines noted of the samples: whether a server kept to its seeds, which way was drawn, and why
    columns are null."""
    metas = [described(part).meta for shard in shards for part in flat(_samples(shard).parts)]
    seeded = [meta["seeded"] for meta in metas if "seeded" in meta]
    ways = sorted({meta["drawn"] for meta in metas if "drawn" in meta})
    null = {column: why for meta in metas for column, why in meta.get("null", {}).items()}
    return {
        **({"seeded": all(seeded)} if seeded else {}),
        **({"drawn": ways} if ways else {}),
        **({"null": null} if null else {}),
    }


def _remove_stale(books: _Books) -> None:
    for table in {path.rpartition("/")[0] for path in books.files}:
        for name in filesystem.names(filesystem.join(books.folder, table)):
            if name.endswith(".parquet") and f"{table}/{name}" not in books.files:
                filesystem.remove(filesystem.join(books.folder, table, name))
