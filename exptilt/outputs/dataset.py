"""What comes out: the JSON records, and beside them a folder that load_dataset and polars open.

The folder's manifest.json is written last: while it is missing, the folder is not whole.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from exptilt.data import records
from exptilt.errors import ShardsFailed
from exptilt.outputs import manifest, reuse
from exptilt.outputs.names import stem
from exptilt.outputs.run_summary import summary_of
from exptilt.outputs.shard_writer import ShardWriter
from exptilt.planning.plan import Plan
from exptilt.reports import chain_picture, dataset_card, figures, samples_html, tilt_pictures, web_page
from exptilt.reports.summary import Summary
from exptilt.run import in_its_run
from exptilt.stages.failures import AllMissing, MissingPrompt
from exptilt.stages.references import Drawn, DrawsRef, SamplesRef, flat
from exptilt.storage import cleanup, filesystem, keys, lease, pool

Shard = SamplesRef | DrawsRef | AllMissing  # the last where all its prompts are left out


@in_its_run
def merge(plan: Plan, shards: Sequence[Shard]) -> Summary:
    """Write records and data set of all shards, in order, one shard in memory at a time.

    Of runs that share the storage the first writes the outputs, the others find them. Raises ShardsFailed
    where nothing is left to write.
    """
    drawn = [shard for shard in shards if not isinstance(shard, AllMissing)]
    missing = [prompt for shard in shards if isinstance(shard, AllMissing) for prompt in shard.missing]
    if not drawn:
        raise ShardsFailed(f"every prompt failed; the first: {missing[0]}")
    name, root = stem(plan), plan.recipe.config.save_directory
    with lease.held(f"{pool.place(root, 'merging', keys.content_key(name))}.lease"):
        return _merge(plan, drawn, missing, filesystem.join(root, name))


def _merge(plan: Plan, drawn: Sequence[Drawn], missing: list[MissingPrompt], folder: str) -> Summary:
    path = f"{folder}.json"
    ordered = sorted(drawn, key=lambda shard: shard.samples.shard.index)
    made_of = reuse.made_of(plan, ordered, missing)
    writer = ShardWriter(plan, folder, missing, writes=not reuse.is_there(folder, made_of))
    rows = (row for shard in ordered for row in writer.enter(shard))
    if writer.writes:
        filesystem.remove(filesystem.join(folder, pool.MANIFEST))
        with filesystem.writing(path) as f:
            records.write_json(f, rows)
    else:
        deque(rows, maxlen=0)  # for the totals alone
    summary = summary_of(writer, path)
    if writer.writes:
        _finish(writer, summary, made_of)
    cleanup.sweep(_places(writer))
    return summary


def _places(writer: ShardWriter) -> Iterator[str]:
    """Every folder that a run writes to."""
    root, folder = writer.plan.recipe.config.save_directory, writer.folder
    yield from (root, folder, folder.rpartition("/")[0])
    yield from (pool.place(root, stage) for stage in ("claims", "merging", "runs", "progress"))
    yield from (filesystem.join(folder, file).rpartition("/")[0] for file in writer.files)
    for path in (path for shard in writer.shards for path in _entries(shard)):
        yield from (path, path.rpartition("/")[0])


def _entries(shard: Drawn) -> list[str]:
    """The pool's entries that a shard is of."""
    mine = [shard.samples.shard.prompts, *flat(shard.samples.parts)]
    if isinstance(shard, SamplesRef):
        return mine
    refined = shard.refined.entries if shard.refined else []
    return [*mine, *(part for scored in shard.rewards for part in flat(scored.parts)), *shard.paths, *refined]


def _finish(writer: ShardWriter, summary: Summary, made_of: str) -> None:
    """The card and the page, then the manifest that makes the folder count; files of before are removed."""
    folder, files = writer.folder, writer.files
    said = manifest.of(writer.plan, writer.shards, files, summary) | reuse.marks(summary, made_of)
    card = dataset_card.render(said, summary, sorted({path.partition("/")[0] for path in files}))
    filesystem.write_bytes(filesystem.join(folder, "README.md"), card.encode())
    filesystem.write_bytes(filesystem.join(folder, "index.html"), _page(writer, summary))
    filesystem.write_json(filesystem.join(folder, pool.MANIFEST), said)
    _remove_stale(folder, files)


def _page(writer: ShardWriter, summary: Summary) -> bytes:
    """The page to look at in a browser."""
    chosen, lam, pictures = writer.page, writer.plan.recipe.lam, []
    if summary.quality:
        rows = pl.concat(chosen.pictured)
        moved = [chain_picture.course(summary.refinement)] if summary.refinement else []
        drawn = (
            *moved,
            tilt_pictures.tilt(rows, lam),
            figures.certificate(summary, *writer.totals.bars()),
        )
        pictures = [figures.svg(figure) for figure in drawn]
    by_lot, worst = ([prompt for _, prompt in each] for each in (chosen.by_lot, chosen.worst))
    tables = dict.fromkeys(path.partition("/")[0] for path in writer.files)
    prompts = samples_html.lists(by_lot, worst, list(lam))
    return web_page.data_set(summary, prompts, pictures, list(tables))


def _remove_stale(folder: str, files: Mapping[str, object]) -> None:
    for table in {path.rpartition("/")[0] for path in files}:
        for name in filesystem.names(filesystem.join(folder, table)):
            if name.endswith(".parquet") and f"{table}/{name}" not in files:
                filesystem.remove(filesystem.join(folder, table, name))
