"""What a run says in lines of their own before it starts: what differs from what one may expect."""

from collections.abc import Iterator, Mapping, Sequence

from exptilt import rewards
from exptilt.engines.base import P0
from exptilt.planning.base_model import other_sampler
from exptilt.planning.values import sources
from exptilt.rewards import RewardSpec
from exptilt.stages.recipe import Recipe


def notes(recipe: Recipe, null: Mapping[str, str], unsteady: Sequence[str]) -> Iterator[str]:
    """The lines of a run.

    Args:
        recipe: the run's.
        null: why columns of the samples are null.
        unsteady: values that were found to give one text several numbers.
    """
    if recipe.p0:
        yield from _other_sampler(recipe.p0)
    yield from _templates(recipe.rewards)
    yield from _groups(recipe.rewards)
    yield from _moves(recipe, unsteady)
    yield from _nulls(null)


def _other_sampler(p0: P0) -> Iterator[str]:
    asked = other_sampler(p0)
    if asked:
        yield f"{p0.model.name} asks for {asked} (generation_config.json), which this run does not use"


def _templates(specs: Sequence[RewardSpec]) -> Iterator[str]:
    """Classifiers that are given text, though their tokenizer has a chat template."""
    for spec in sources(specs):
        if spec.form == "text" and rewards.has_template(spec):
            yield (
                f"{spec.model.name} has a chat template, and value {spec.value!r} is given text: "
                ":chat behind it gives it conversations"
            )


def _groups(specs: Sequence[RewardSpec]) -> Iterator[str]:
    """Values that are no number of a sample alone."""
    for spec in specs:
        if spec.group:
            yield (
                f"value {spec.value!r} is of {rewards.together(spec.group)}: "
                "another --nsamples scores them anew"
            )


def _moves(recipe: Recipe, unsteady: Sequence[str]) -> Iterator[str]:
    """Values whose number of one text may differ from time to time, where a run refines."""
    for source in sources(recipe.rewards) if recipe.refines else ():
        if source.value in unsteady:
            yield (
                f"value {source.value!r} gave one text two numbers: --refine keeps the first that it gets of "
                "each completion, and follows no law exactly"
            )
        elif rewards.needs_of(source) == "server":
            yield (
                f"value {source.value!r} is asked of a server: where it gives one text several numbers, "
                "--refine follows no law exactly"
            )


def _nulls(null: Mapping[str, str]) -> Iterator[str]:
    for reason in dict.fromkeys(null.values()):
        columns = [column for column, why in null.items() if why == reason]
        yield f"no {' and no '.join(columns)} of the samples: {reason}"
