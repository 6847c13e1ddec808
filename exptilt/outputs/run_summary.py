"""The summary of a run that wrote a data set: its totals, and what the pool noted of its entries."""

from collections import Counter
from collections.abc import Iterable

from exptilt.outputs import training_tables
from exptilt.outputs.names import stem
from exptilt.outputs.shard_writer import ShardWriter
from exptilt.reports.summary import Summary
from exptilt.stages.references import DrawsRef, RewardsRef, SamplesRef, flat
from exptilt.stages.tables import described


def summary_of(writer: ShardWriter, path: str) -> Summary:
    """The totals, once every shard is entered; `path` is that of the records."""
    plan, drawn = writer.plan, [shard.samples for shard in writer.shards]
    exports = getattr(plan.recipe.config, "export", ())
    summary = Summary(
        title=stem(plan),
        prompts=plan.n_prompts - len(writer.missing),
        missing=sorted(writer.missing, key=lambda prompt: prompt.prompt_index),
        samples=writer.samples,
        kept=writer.kept,
        pairs=writer.pairs if training_tables.has_pairs(exports) else None,
        n=plan.recipe.config.nsamples,
        tokens=sum(s.tokens for s in drawn),
        generate_seconds=sum(s.seconds for s in drawn),
        shards=len(drawn),
        reused={"samples": sum(s.cached for s in drawn)},
        skipped=dict(Counter(plan.skipped.values())),
        truncated=len(plan.truncated),
        rescored=_noted(drawn, "rescored"),
        cut={"nll": _noted(drawn, "cut")},
        retries=plan.run.retries,
        json=path,
        folder=writer.folder,
    )
    if plan.recipe.rewards:
        _add_tilt(summary, writer)
    return summary


def _noted(refs: Iterable[SamplesRef | RewardsRef], what: str) -> int:
    """A count that entries of samples or rewards note, in all."""
    return sum(described(part).meta.get(what, 0) for ref in refs for part in flat(ref.parts))


def _add_tilt(summary: Summary, writer: ShardWriter) -> None:
    tilted = [shard for shard in writer.shards if isinstance(shard, DrawsRef)]
    summary.values, summary.quality = writer.totals.changes(), writer.totals.quality()
    summary.spreads = writer.totals.spreads()
    if writer.chains.chains:
        summary.refinement = writer.chains.refinement()
        summary.reused["moves"] = writer.chains.reused
    summary.score_seconds = sum(r.seconds for shard in tilted for r in shard.rewards)
    for i, spec in enumerate(writer.plan.recipe.rewards):
        mine = [shard.rewards[i] for shard in tilted]
        summary.reused[spec.value] = sum(ref.cached for ref in mine)
        summary.cut[spec.value] = _noted(mine, "cut")
