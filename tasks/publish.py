"""Publish: a finished data set on the Hugging Face Hub, where its run asks for it."""

from typing import Any

from exptilt.outputs import publish
from exptilt.planning.plan import Plan
from exptilt.planning.publishing import repository_of
from exptilt.reports.summary import Summary
from tasks.runtime.task import step


def _push(plan: Plan, summary: Summary) -> Summary:
    return publish.published(plan, summary)


push: Any = step(_push, "push to {plan.recipe.config.push_to}")


def published(plan: Plan, summary: Summary) -> Summary:
    """The summary, once its data set is on the Hub where the configuration says so."""
    asked = repository_of(plan.recipe.config)
    done: Summary = push(plan, summary) if asked else summary
    return done
