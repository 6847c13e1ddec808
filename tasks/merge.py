"""Merge and save: records, data set, manifest; the summary as an artifact in the UI."""

from typing import Any

from prefect.artifacts import create_markdown_artifact

from exptilt import output
from exptilt.plan import Plan
from exptilt.refs import DrawsRef, SamplesRef
from exptilt.summary import Summary, markdown
from tasks.step import step


def _merge(plan: Plan, shards: list[SamplesRef | DrawsRef]) -> Summary:
    summary = output.merge(plan, shards)
    create_markdown_artifact(f"# {summary.title}\n\n{markdown(summary)}", key="exptilt-summary")
    return summary


merge: Any = step(_merge, "merge and save")
