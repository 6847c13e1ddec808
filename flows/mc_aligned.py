"""gen/mc-aligned: text from the tilted model, y ~ p0(y|x) exp(Σ λ r(x, y)).

python flows/mc_aligned.py --lam -0.5 --value humor --nsamples 50
"""

from exptilt.config.command_line import command_line
from exptilt.config.settings import MCAligned
from tasks.runtime.server_process import begun

if __name__ == "__main__":
    CONFIG = command_line(MCAligned)  # before Prefect loads, so that --help answers at once
    SERVER = begun()  # which boots meanwhile

from exptilt.planning.plan import Plan
from exptilt.reports.summary import Summary
from exptilt.stages.references import ShardRef
from tasks.generate import generate
from tasks.merge import merge
from tasks.prompts import load_prompts
from tasks.publish import published
from tasks.refine import refine
from tasks.runtime.flow import gen
from tasks.runtime.launch import launch
from tasks.runtime.shards import Line, each_shard
from tasks.score import score
from tasks.tilt import tilt
from tasks.whole import tilt_whole


@gen(MCAligned)
def mc_aligned(config: MCAligned, prepared: Plan | None) -> Summary:
    """Draw n completions per prompt, score them, keep those of the tilted model."""
    plan: Plan = load_prompts(config, prepared)
    recipe = plan.recipe

    def begin(shard: ShardRef) -> Line:
        samples = generate.submit(recipe, shard)
        rewards = [score.submit(recipe.workspace, shard, samples, spec) for spec in recipe.rewards]
        tilted = tilt.submit(recipe, shard, samples, rewards)
        refined = [refine.submit(recipe, shard, tilted)] if recipe.refines else []
        return [samples, *rewards, tilted, *refined]

    summary: Summary = merge(plan, each_shard(plan, begin, tilt_whole))
    return published(plan, summary)


if __name__ == "__main__":
    launch(mc_aligned, CONFIG, SERVER)
