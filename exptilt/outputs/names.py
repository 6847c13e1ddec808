"""How outputs are called under the save directory."""

from exptilt.config.settings import MCAligned
from exptilt.planning.plan import Plan


def stem(plan: Plan) -> str:
    """The outputs' name under the save directory, as the research code spelled it."""
    config = plan.recipe.config
    if not isinstance(config, MCAligned):
        return named(plan, "")
    values = "all" if config.value == ("all",) else ",".join(s.value for s in plan.recipe.rewards)
    return named(plan, f"_lam={','.join(f'{lam:.3f}' for lam in plan.recipe.lam.values())}_val={values}")


def swept(plan: Plan) -> str:
    """The name of a sweep's outputs."""
    return named(plan, f"_sweep_val={','.join(spec.value for spec in plan.recipe.rewards)}")


def named(plan: Plan, what: str) -> str:
    """The name of an output of `plan`; those of a range of prompts lie under temp/."""
    config, name = plan.recipe.config, plan.recipe.name + what
    if config.start or config.end is not None:
        end = config.end if config.end is not None else config.start + plan.n_prompts
        return f"temp/{name}_{config.start}to{end}"
    return name
