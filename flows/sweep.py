"""gen/sweep: what many λ bring and cost, from one pool: nothing is drawn or scored twice.

python flows/sweep.py --value humor --lam humor=-1:1:0.25
"""

from exptilt.cli import command_line
from exptilt.explore import Sweep

if __name__ == "__main__":
    CONFIG = command_line(Sweep)  # before Prefect loads, so that --help answers at once

from exptilt import explored
from exptilt.frontier import Frontier
from exptilt.plan import Plan
from tasks.explore import explore, load_explored, save_sweep, scored_lines, tilted
from tasks.launch import launch
from tasks.merge import merge
from tasks.run import finished, gen


@gen(Sweep)
def sweep(config: Sweep) -> Frontier:
    """Look at every λ over the samples and rewards of one pool, and save those asked for."""
    plan: Plan = load_explored(config)
    lines = [
        [*line, explore.submit(plan.recipe, shard, line[-1])]
        for shard, line in zip(plan.shards, scored_lines(plan), strict=True)
    ]
    shards = finished(lines)
    for place in config.saved:
        chosen = explored.tilted(plan, config.vectors[place])
        merge(chosen, tilted(chosen, shards))
    frontier: Frontier = save_sweep(plan, shards)
    return frontier


if __name__ == "__main__":
    launch(sweep, CONFIG, explored.prepare)
