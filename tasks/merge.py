"""Merge and save: records, data set, manifest; the summary as an artifact in the UI."""

from typing import Any

from prefect.artifacts import create_markdown_artifact

from exptilt.outputs import dataset
from exptilt.planning.plan import Plan
from exptilt.reports.summary import Summary
from exptilt.reports.summary_text import markdown
from exptilt.stages.references import DrawsRef, SamplesRef
from tasks.runtime.task import step


def _merge(plan: Plan, shards: list[SamplesRef | DrawsRef]) -> Summary:
    summary = dataset.merge(plan, shards)
    create_markdown_artifact(f"# {summary.title}\n\n{markdown(summary)}", key="exptilt-summary")
    return summary


merge: Any = step(_merge, "merge and save")
