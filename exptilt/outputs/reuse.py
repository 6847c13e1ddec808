"""Whether a data set is there already: of the same entries, by the same settings, and whole."""

from collections.abc import Sequence
from typing import Any, Final

from exptilt import __version__
from exptilt.config.publishing import PUSHING
from exptilt.errors import StorageError
from exptilt.outputs.pool_entries import ENTRIES
from exptilt.planning.plan import Plan
from exptilt.reports.summary import Summary
from exptilt.stages.failures import MissingPrompt
from exptilt.stages.references import Drawn, DrawsRef, flat
from exptilt.stages.tables import digests
from exptilt.storage import filesystem, keys, pool

MADE_OF, RECORDS, PAGES = "made_of", "records_sha256", "pages"
ELSEWHERE: Final = {
    "save_directory",
    "endpoint_url",
    "runner",
    "ray_address",
    *PUSHING,
}  # what another machine may spell otherwise


def made_of(plan: Plan, shards: Sequence[Drawn], missing: Sequence[MissingPrompt]) -> str:
    """What a data set of `shards` is made of and by, in one digest."""
    said = {
        "exptilt": __version__,
        "configuration": plan.recipe.config.model_dump(mode="json", exclude=ELSEWHERE),
        "shards": [_entries(shard) for shard in shards],
        "skipped": {str(index): why for index, why in plan.skipped.items()},
        "truncated": list(plan.truncated),
        "missing": [str(prompt) for prompt in missing],
    }
    return keys.content_key(said)


def _entries(shard: Drawn) -> list[str]:
    """Names that change with a shard's rows: draws are called after all that they come from."""
    if isinstance(shard, DrawsRef):
        refined = shard.refined.entries if shard.refined else []
        return [_key(path) for path in (shard.samples.shard.prompts, *shard.paths, *refined)]
    return [_key(shard.shard.prompts), *digests(flat(shard.parts))]


def _key(path: str) -> str:
    return path.rpartition("/")[2]


def marks(summary: Summary, made_of: str) -> dict[str, Any]:
    """What the manifest says for `is_there`, once records and pages are written."""
    pages = ["README.md", "index.html"]
    return {MADE_OF: made_of, RECORDS: filesystem.digest(summary.json), PAGES: pages}


def is_there(folder: str, made_of: str) -> bool:
    """Whether `folder` and its records are a data set that is made of this, all as it was written."""
    try:
        manifest = filesystem.read_json(filesystem.join(folder, pool.MANIFEST))
        is_named = ENTRIES in manifest  # an older version named no entries: it is written anew
        return bool(manifest[MADE_OF] == made_of) and is_named and _is_whole(folder, manifest)
    except (StorageError, KeyError, TypeError, AttributeError):
        return False


def _is_whole(folder: str, manifest: dict[str, Any]) -> bool:
    files = {filesystem.join(folder, name): file["sha256"] for name, file in manifest["files"].items()}
    files[f"{folder}.json"] = manifest[RECORDS]
    pages = set(manifest[PAGES]) <= set(filesystem.names(folder))
    return pages and all(filesystem.digest(path) == sha256 for path, sha256 in files.items())
