"""What became of a run's shards: their results, or one error that lists every shard that failed."""

from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

from exptilt.errors import ShardsFailed
from exptilt.stages.failures import AllMissing
from exptilt.wording import counted

R = TypeVar("R")


def results(outcomes: Sequence[R | BaseException]) -> list[R | AllMissing]:
    """The shards' results in order, AllMissing where all prompts of a shard are left out.

    Args:
        outcomes: of each shard its result, or the error of its first step that failed.

    Raises:
        ShardsFailed: where a shard failed, or every prompt of the run is left out.
    """
    failures = {i: outcome for i, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)}
    failed = [error for error in failures.values() if not isinstance(error, AllMissing)]
    if failed or (failures and len(failures) == len(outcomes)):
        causes = _by_cause(failures)
        text = _listed(causes, len(failures), len(outcomes))
        raise ShardsFailed(text, causes) from [*failed, *failures.values()][0]
    return cast("list[R | AllMissing]", list(outcomes))


def _by_cause(failures: Mapping[int, BaseException]) -> dict[str, list[str]]:
    """The shards of every different error; the first path stands for its like."""
    lines: dict[str, str] = {}
    shards: dict[str, list[str]] = {}
    for index, error in failures.items():
        first = (str(error) or type(error).__name__).splitlines()[0]
        first = lines.setdefault(getattr(error, "reason", first), first)
        shards.setdefault(first, []).append(f"{index + 1:03d}")
    return shards


def _listed(causes: Mapping[str, Sequence[str]], failed: int, total: int) -> str:
    """One line per cause."""
    return "\n".join(
        [
            f"{failed} of {counted(total, 'shard')} failed; the others are saved, and a re-run "
            "does only what is missing:",
            *(f"  shard {', '.join(hit)}: {error}" for error, hit in causes.items()),
        ]
    )
