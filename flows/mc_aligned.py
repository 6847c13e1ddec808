"""gen/mc-aligned: text from the tilted model, y ~ p0(y|x) exp(Σ λ r(x, y)).

python flows/mc_aligned.py --lam -0.5 --value humor --nsamples 50
"""

from exptilt.config.command_line import command_line
from exptilt.config.settings import MCAligned

if __name__ == "__main__":
    CONFIG = command_line(MCAligned)  # before Prefect loads, so that --help answers at once

from exptilt.planning.plan import Plan
from exptilt.reports.summary import Summary
from tasks.generate import generate, in_turn
from tasks.merge import merge
from tasks.prompts import load_prompts
from tasks.runtime.flow import Line, finished, gen
from tasks.runtime.launch import launch
from tasks.score import score
from tasks.tilt import tilt


@gen(MCAligned)
def mc_aligned(config: MCAligned, prepared: Plan | None) -> Summary:
    """Draw n completions per prompt, score them, keep those of the tilted model."""
    plan: Plan = load_prompts(config, prepared)
    recipe, lines = plan.recipe, list[Line]()
    for shard in plan.shards:
        samples = generate.submit(recipe, shard, wait_for=in_turn(recipe, lines))
        rewards = [score.submit(recipe.workspace, shard, samples, spec) for spec in recipe.rewards]
        lines.append([samples, *rewards, tilt.submit(recipe, shard, samples, rewards)])
    summary: Summary = merge(plan, finished(lines))
    return summary


if __name__ == "__main__":
    launch(mc_aligned, CONFIG)
