"""gen/palette: the λ of least KL that brings the target levels, or why no tilt can.

python flows/palette.py --target humor=+0.1,positive=keep
"""

from exptilt.config.command_line import command_line
from exptilt.config.exploration import Palette
from tasks.runtime.server_process import begun

if __name__ == "__main__":
    CONFIG = command_line(Palette)  # before Prefect loads, so that --help answers at once
    SERVER = begun()  # which boots meanwhile

from exptilt.planning import exploration
from exptilt.planning.plan import Plan
from exptilt.reports.palette_answer import Found
from tasks.explore import find_palette, load_explored, scored_line
from tasks.runtime.flow import gen
from tasks.runtime.launch import launch
from tasks.runtime.shards import each_shard
from tasks.whole import collect_whole


@gen(Palette)
def palette(config: Palette, prepared: Plan | None) -> Found:
    """Find λ from targets over the samples and rewards of one pool."""
    plan: Plan = load_explored(config, prepared)
    shards = each_shard(plan, lambda shard: scored_line(plan.recipe, shard), collect_whole)
    answer: Found = find_palette(plan, shards)
    return answer


if __name__ == "__main__":
    launch(palette, CONFIG, SERVER, exploration.prepare)
