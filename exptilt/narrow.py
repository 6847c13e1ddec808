"""Work that fails at one item: halved until the item stands alone, so that the others get theirs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from exptilt.errors import ExptiltError, PromptError, PromptRefused

MOST: Final = 4  # a failure at more items than these is nobody's own: it is raised as it came
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A prompt that is left out: its index, the beginning of its text, and why."""

    prompt_index: int
    prompt: str
    why: str

    def __str__(self) -> str:
        return f"prompt {self.prompt_index} ({self.prompt!r}): {self.why}"


def missing(row: dict[str, Any], verb: str, error: Exception) -> Missing:
    """The prompt of `row` with what failed at it, in one line."""
    said = next(iter(str(error).splitlines()), "") or "no reason given"
    return Missing(
        prompt_index=row["prompt_index"],
        prompt=row["prompt"][:60],
        why=f"{verb} failed with {type(error).__name__}: {said[:200]}",
    )


class PromptsFailed(PromptError):
    """Prompts at which an engine or a reward fails, named; and what was drawn of the others meanwhile."""

    def __init__(self, prompts: Sequence[Missing], tokens: int = 0, seconds: float = 0.0) -> None:
        self.missing, self.tokens, self.seconds = tuple(prompts), tokens, seconds
        super().__init__("; ".join(map(str, prompts)))

    def __reduce__(self) -> tuple[type["PromptsFailed"], tuple[tuple[Missing, ...], int, float]]:
        return type(self), (self.missing, self.tokens, self.seconds)


class NothingLeft(PromptsFailed):
    """A shard all of whose prompts failed, in a run that may leave them out."""


def narrowed(
    items: Sequence[T],
    work: Callable[[Sequence[T]], R],
    known: Callable[[T], bool] = lambda item: False,
) -> tuple[list[R], list[tuple[T, Exception]]]:
    """What `work` gives for all items or, where it raises, for their halves; and the items that it fails
    at alone, each with its error.

    An item that is `known` to have failed before is tried alone. What may pass (OSError) and what exptilt
    raises on purpose, but for PromptRefused, goes through, and so does the first error where more than MOST
    items fail.
    """
    found: list[R] = []
    failed: list[tuple[T, Exception]] = []
    waiting = [items]
    while waiting:
        part = waiting.pop()
        alone = len(part) <= 1
        if alone or not any(map(known, part)):
            try:
                found.append(work(part))
                continue
            except Exception as error:
                if isinstance(error, (ExptiltError, OSError)) and not isinstance(error, PromptRefused):
                    raise
                if alone:
                    failed.append((part[0], error))
        if len(failed) > MOST:
            raise failed[0][1]
        if not alone:
            waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
    return found, failed
