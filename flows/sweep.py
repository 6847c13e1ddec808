"""gen/sweep: what many λ bring and cost, from one pool: nothing is drawn or scored twice.

python flows/sweep.py --value humor --lam humor=-1:1:0.25
"""

from exptilt.config.command_line import command_line
from exptilt.config.exploration import Sweep
from tasks.runtime.server_process import begun

if __name__ == "__main__":
    CONFIG = command_line(Sweep)  # before Prefect loads, so that --help answers at once
    SERVER = begun()  # which boots meanwhile

from exptilt.planning import exploration
from exptilt.planning.plan import Plan
from exptilt.reports.frontier import Frontier
from tasks.explore import explored_line, load_explored, save_sweep, tilted
from tasks.merge import merge
from tasks.runtime.flow import gen
from tasks.runtime.launch import launch
from tasks.runtime.shards import each_shard
from tasks.whole import explore_whole


@gen(Sweep)
def sweep(config: Sweep, prepared: Plan | None) -> Frontier:
    """Look at every λ over the samples and rewards of one pool, and save those asked for."""
    plan: Plan = load_explored(config, prepared)
    shards = each_shard(plan, lambda shard: explored_line(plan.recipe, shard), explore_whole)
    for place in config.saved:
        chosen = exploration.tilted(plan, config.vectors[place])
        merge(chosen, tilted(chosen, shards))
    frontier: Frontier = save_sweep(plan, shards)
    return frontier


if __name__ == "__main__":
    launch(sweep, CONFIG, SERVER, exploration.prepare)
