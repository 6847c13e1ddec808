"""gen/original: text from the base model, y ~ p0(y|x).

python flows/original.py --basemodel demo --data demo
"""

from exptilt.config.command_line import command_line
from exptilt.config.settings import Original
from tasks.runtime.server_process import begun

if __name__ == "__main__":
    CONFIG = command_line(Original)  # before Prefect loads, so that --help answers at once
    SERVER = begun()  # which boots meanwhile

from exptilt.planning.plan import Plan
from exptilt.reports.summary import Summary
from tasks.generate import generate
from tasks.merge import merge
from tasks.prompts import load_prompts
from tasks.publish import published
from tasks.runtime.flow import gen
from tasks.runtime.launch import launch
from tasks.runtime.shards import each_shard


@gen(Original)
def original(config: Original, prepared: Plan | None) -> Summary:
    """Draw completions from the base model and save them."""
    plan: Plan = load_prompts(config, prepared)
    shards = each_shard(plan, lambda shard: [generate.submit(plan.recipe, shard)], generate)
    summary: Summary = merge(plan, shards)
    return published(plan, summary)


if __name__ == "__main__":
    launch(original, CONFIG, SERVER)
