"""Records of a file: load them into the pool, save them with their values."""

from typing import Any

from exptilt.config.scoring import Scoring
from exptilt.outputs import scores
from exptilt.planning import score_file
from exptilt.planning.score_file import ScorePlan
from exptilt.reports.scores import Scores
from exptilt.stages.references import RewardsRef
from tasks.runtime.artifacts import show_scores
from tasks.runtime.cluster import planned
from tasks.runtime.task import step


def _load_records(config: Scoring, plan: ScorePlan | None) -> ScorePlan:
    """Read and check the records, and put them into the pool, shard by shard."""
    return plan or planned(score_file.prepare, config)


def _save_records(plan: ScorePlan, scored: list[RewardsRef]) -> Scores:
    """Write the records with their values."""
    saved = scores.save(plan, scored)
    show_scores(saved)
    return saved


load_records: Any = step(_load_records, "load {config.file}")
save_records: Any = step(_save_records, "save {plan.config.file}")
