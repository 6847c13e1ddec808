"""gen/score: values for texts that exist already.

python flows/score.py --file results/opt1.3b-Anthropic-harmless.json --value humor,diversity
"""

from exptilt.config.command_line import command_line
from exptilt.config.scoring import Scoring
from tasks.runtime.server_process import begun

if __name__ == "__main__":
    CONFIG = command_line(Scoring)  # before Prefect loads, so that --help answers at once
    SERVER = begun()  # which boots meanwhile

from exptilt.planning.score_file import ScorePlan, prepare
from exptilt.reports.scores import Scores
from tasks.records import load_records, save_records
from tasks.runtime.flow import gen
from tasks.runtime.launch import launch
from tasks.runtime.shards import each_value
from tasks.score import score


@gen(Scoring)
def score_file(config: Scoring, prepared: ScorePlan | None) -> Scores:
    """Score the records of a file and add the values to them."""
    plan: ScorePlan = load_records(config, prepared)
    shards = each_value(plan, score)
    scores: Scores = save_records(plan, shards)
    return scores


if __name__ == "__main__":
    launch(score_file, CONFIG, SERVER, prepare)
