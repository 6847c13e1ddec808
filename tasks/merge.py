"""Merge and save: records, data set, manifest; what came out, in the UI."""

from typing import Any

from exptilt.outputs import dataset
from exptilt.planning.plan import Plan
from exptilt.reports.summary import Summary
from exptilt.stages.references import DrawsRef, SamplesRef
from tasks.runtime.artifacts import show_summary
from tasks.runtime.task import step


def _merge(plan: Plan, shards: list[SamplesRef | DrawsRef]) -> Summary:
    """Write records, data set, page and manifest from all shards."""
    summary = dataset.merge(plan, shards)
    show_summary(summary)
    return summary


merge: Any = step(_merge, "merge and save")
