"""Records of a file: load them into the pool, save them with their values."""

from typing import Any

from exptilt import scoring
from exptilt.config import Scoring
from exptilt.refs import RewardsRef
from exptilt.scoring import ScorePlan, Scores
from tasks.step import step


def _load_records(config: Scoring) -> ScorePlan:
    return scoring.prepare(config)


def _save_records(plan: ScorePlan, scored: list[RewardsRef]) -> Scores:
    return scoring.save(plan, scored)


load_records: Any = step(_load_records, "load {config.file}")
save_records: Any = step(_save_records, "save {plan.config.file}")
