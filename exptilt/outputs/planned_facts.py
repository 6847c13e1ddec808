"""What a plan says of a run before it begins, and the key of its configuration: the same on every machine."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from exptilt.config.exploration import Palette, Sweep
from exptilt.config.scoring import Scoring
from exptilt.config.settings import Config, MCAligned
from exptilt.outputs import names
from exptilt.planning.plan import Plan
from exptilt.planning.run_record import OWN
from exptilt.planning.score_file import ScorePlan
from exptilt.reports.standing import Facts
from exptilt.rewards import RewardSpec
from exptilt.stages.steered_draws import POPULATIONS
from exptilt.storage import keys

MACHINES: Final = OWN | {"device"}  # settings that may differ between the machines of a run


def facts_of(plan: Plan | ScorePlan) -> Facts:
    """The facts of a run that begins now."""
    return _of_file(plan) if isinstance(plan, ScorePlan) else _of_prompts(plan)


def _of_prompts(plan: Plan) -> Facts:
    config = plan.recipe.config
    title, output = _names(plan)
    return Facts(
        title=title,
        opening=plan.opening.partition("\n")[0],
        output=output,
        began=time.time(),
        prompts=tuple(shard.n_prompts for shard in plan.shards),
        samples=plan.n_prompts * config.nsamples,
        draws=plan.recipe.p0 is not None,
        nsamples=config.nsamples,
        max_new_tokens=config.max_new_tokens,
        moved=_moved(plan),
        lam=plan.recipe.lam,
        rewards=_sources(plan.recipe.rewards),
        skipped=dict(Counter(plan.skipped.values())),
    )


def _moved(plan: Plan) -> float:
    """What moves and particles draw of a prompt beside its samples, in samples.

    A move and a copy draw half of one. A prompt with a certificate has second chains, which move twice as
    often as the first, and further populations, of which all but that at 2 λ draw their particles.
    """
    config, certified = plan.recipe.config, min(plan.recipe.certified, 1.0)
    if not isinstance(config, MCAligned):
        return 0.0
    moves = config.refine * config.ndraws * (1 + 2 * certified) / 2
    if not plan.recipe.steers:
        return moves
    copies, others = config.nsamples / 2, POPULATIONS - 1  # about one copy of each particle
    return moves + copies + certified * (copies + others * (config.nsamples + copies))


def _of_file(plan: ScorePlan) -> Facts:
    return Facts(
        title=f"score {plan.config.file.rpartition('/')[2]}",
        opening=plan.opening.partition("\n")[0],
        output="",
        began=time.time(),
        prompts=tuple(samples.shard.n_prompts for samples in plan.shards for _ in plan.rewards),
        samples=plan.records * plan.shape.samples * len(plan.rewards),
        draws=False,
        rewards=_sources(plan.rewards) / len(plan.rewards),
        skipped=dict(Counter(plan.skipped.values())),
    )


def _names(plan: Plan) -> tuple[str, str]:
    """What a run's outputs are called, and its page under the save directory; "" where it has none."""
    match plan.recipe.config:
        case Sweep():
            title = names.swept(plan)
        case Palette():
            return names.named(plan, "_palette"), ""
        case _:
            title = names.stem(plan)
    return title, f"{title}/index.html"


def _sources(specs: Sequence[RewardSpec]) -> int:
    """The rewards of a sample that are computed."""
    return len({source.value for spec in specs for source in spec.sources})


def key_of(plan: Plan | ScorePlan) -> str:
    """The key of a plan's configuration and prompts."""
    config = config_of(plan)
    shards = [each.shard for each in plan.shards] if isinstance(plan, ScorePlan) else plan.shards
    said = {
        "run": type(config).__name__,
        "configuration": config.model_dump(mode="json", exclude=MACHINES),
        "prompts": [shard.prompts.rpartition("/")[2] for shard in shards],
    }
    return keys.content_key(said)


def config_of(plan: Plan | ScorePlan) -> Config | Scoring:
    """The settings of a plan."""
    return plan.config if isinstance(plan, ScorePlan) else plan.recipe.config
