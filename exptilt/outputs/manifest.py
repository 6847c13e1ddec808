"""What the manifest of a data set says: how it was made, what engines noted, its files."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from exptilt.config.publishing import PUSHING
from exptilt.engines import registry
from exptilt.models import reference
from exptilt.outputs import pool_entries
from exptilt.planning.plan import Plan
from exptilt.reports.provenance import made_with
from exptilt.reports.summary import Summary
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import Drawn, flat
from exptilt.stages.tables import described


def of(plan: Plan, shards: Sequence[Drawn], files: Mapping[str, object], summary: Summary) -> dict[str, Any]:
    """The manifest of a data set.

    Args:
        plan: the run's.
        shards: whose rows it holds.
        files: what is said of each of its files.
        summary: the run's.
    """
    return {
        **provenance(plan),
        **_noted(shards),
        "skipped_prompts": {str(index): why for index, why in plan.skipped.items()},
        "truncated_prompts": list(plan.truncated),
        "summary": {**asdict(summary), "verdict": summary.sentence},
        "files": files,
        **pool_entries.named(plan.shards, shards),
    }


def provenance(plan: Plan) -> dict[str, Any]:
    """What a manifest says of how its data were made."""
    return {
        "configuration": plan.recipe.config.model_dump(mode="json", exclude=set(PUSHING)),
        "p0": _described(plan.recipe),
        "rewards": [spec.described for spec in plan.recipe.rewards],
        "made_with": made_with(),
        "finished": now(),
    }


def now() -> str:
    """The time, as manifests have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _described(recipe: Recipe) -> dict[str, Any]:
    """p0 as the manifest has it; it is not known of a file's texts."""
    if recipe.p0 is None:
        return {"name": f"unknown (texts of {recipe.name})"}
    is_local = registry.capabilities(recipe.p0.model).is_local
    device = ", ".join(recipe.devices) if is_local else reference.SERVED
    p0 = recipe.p0
    return {**p0.identity, "ends": list(p0.ends), "name": p0.model.name, "device": device}


def _noted(shards: Sequence[Drawn]) -> dict[str, Any]:
    """What engines noted of the samples: whether a server kept to its seeds, which way was drawn, and why
    columns are null."""
    metas = [described(part).meta for shard in shards for part in flat(shard.samples.parts)]
    seeded = [meta["seeded"] for meta in metas if "seeded" in meta]
    ways = sorted({meta["drawn"] for meta in metas if "drawn" in meta})
    null = {column: why for meta in metas for column, why in meta.get("null", {}).items()}
    return {
        **({"seeded": all(seeded)} if seeded else {}),
        **({"drawn": ways} if ways else {}),
        **({"null": null} if null else {}),
    }
