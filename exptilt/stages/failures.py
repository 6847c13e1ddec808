"""Work that fails at one item: halved until the item stands alone, so that the others get theirs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from exptilt.errors import ExptiltError, PromptError, PromptRefused

MOST: Final = 4  # where more items fail, the cause is not theirs: the first error is raised as it came
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingPrompt:
    """A prompt that failed and is left out: its index, the beginning of its text, and why.

    A prompt that --on-long-prompt skips is not one: it is in no shard.
    """

    prompt_index: int
    prompt: str
    why: str

    def __str__(self) -> str:
        return f"prompt {self.prompt_index} ({self.prompt!r}): {self.why}"


def missing_prompt(row: dict[str, Any], verb: str, error: Exception) -> MissingPrompt:
    """The prompt of `row` with what failed at it, in one line."""
    said = next(iter(str(error).splitlines()), "") or "no reason given"
    return MissingPrompt(
        prompt_index=row["prompt_index"],
        prompt=row["prompt"][:60],
        why=f"{verb} failed with {type(error).__name__}: {said[:300]}",
    )


class PromptsFailed(PromptError):
    """Prompts at which an engine or a reward fails, named; and what was drawn of the others meanwhile."""

    def __init__(
        self, prompts: Sequence[MissingPrompt], tokens: int = 0, seconds: float = 0.0, drawn: int = 0
    ) -> None:
        """`drawn` samples of the others, with `tokens`, in `seconds`."""
        self.missing, self.tokens, self.seconds, self.drawn = tuple(prompts), tokens, seconds, drawn
        super().__init__("; ".join(map(str, prompts)))

    def __reduce__(self) -> tuple[type["PromptsFailed"], tuple[tuple[MissingPrompt, ...], int, float, int]]:
        return type(self), (self.missing, self.tokens, self.seconds, self.drawn)


class AllMissing(PromptsFailed):
    """A shard all of whose prompts are missing, in a run that may leave them out."""


def narrowed(
    items: Sequence[T],
    work: Callable[[Sequence[T]], R],
    known: Callable[[T], bool] = lambda item: False,
) -> tuple[list[R], list[tuple[T, Exception]]]:
    """Work in halves where the whole fails, down to the items that fail alone.

    Args:
        items: what to work on.
        work: gives the result of some items.
        known: whether an item failed before; it is tried alone.

    Returns:
        The results of the parts that worked, and the items that fail alone, each with its error. One that is
        refused (PromptRefused) is not tried again.

    Raises:
        Exception: what may pass (OSError), what else exptilt raises on purpose, and the first error where
            more than MOST items fail for a reason that may be everybody's.
    """
    found: list[R] = []
    failed: dict[int, Exception] = {}
    apart = {place for place, item in enumerate(items) if known(item)}
    waiting = [range(len(items))]
    while waiting:
        part = waiting.pop()
        if len(part) <= 1 or not any(place in part for place in apart):
            try:
                found.append(work(items[part.start : part.stop]))
                continue
            except Exception as error:
                failed |= _at(part, error)
                apart |= failed.keys()
                _check(failed.values())
        waiting += [half for half in _halves(part) if len(half) > 1 or half.start not in failed]
    return found, [(items[place], failed[place]) for place in sorted(failed)]


def _halves(part: range) -> list[range]:
    """The halves of `part`, the second first; none of a single item."""
    middle = part.start + len(part) // 2
    return [range(middle, part.stop), range(part.start, middle)] if len(part) > 1 else []


def _at(part: range, error: Exception) -> dict[int, Exception]:
    """The error by the place of its item, empty where that is not known; raises any other error."""
    if isinstance(error, PromptRefused) and error.place is not None:
        return {part[error.place]: error}
    if isinstance(error, (ExptiltError, OSError)) and not isinstance(error, PromptRefused):
        raise error
    return {part.start: error} if len(part) <= 1 else {}


def _check(errors: Iterable[Exception]) -> None:
    """Raise the first error where so many fail that it may be everybody's; a server's refusal is never."""
    others = [error for error in errors if type(error) is not PromptRefused]
    if len(others) > MOST:
        raise others[0]
