"""A trial while planning: what fails at every prompt fails at a few, before any work starts."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar

import polars as pl

from exptilt import rewards
from exptilt.conversation import Message, Prompt, of_dicts
from exptilt.engines import registry
from exptilt.engines.base import P0, Sample
from exptilt.errors import ExptiltError, ModelError, PromptRefused, RewardError
from exptilt.models.devices import is_the_devices
from exptilt.rewards import RewardSpec
from exptilt.stages.references import ShardRef
from exptilt.stages.tables import prompts_of
from exptilt.storage import keys

TOKENS: Final = 2  # of a trial draw
R = TypeVar("R")


class Case(NamedTuple):
    """A prompt to try, and a completion of it."""

    prompt_index: int
    prompt: str
    completion: str = ""
    nll: float | None = None
    messages: tuple[Message, ...] | None = None

    @property
    def asked(self) -> Prompt:
        """The prompt as engines and rewards take it."""
        return self.prompt if self.messages is None else self.messages

    def __str__(self) -> str:
        return f"prompt {self.prompt_index} ({self.prompt[:60]!r})"


def spread(shards: Sequence[ShardRef]) -> list[ShardRef]:
    """The first shard, the one in the middle, the last."""
    return [shards[place] for place in (0, len(shards) // 2, -1)]


def cases(shards: Sequence[ShardRef]) -> list[Case]:
    """Some of a run's prompts: the first of the first shard, one from the middle, the last of the last."""
    tables = [prompts_of(shard) for shard in spread(shards)]
    rows = [t.row(place, named=True) for t, place in zip(tables, (0, tables[1].height // 2, -1), strict=True)]
    return list(dict.fromkeys(case_of(row) for row in rows))


def drawn_cases(drawn: Sequence[pl.DataFrame]) -> list[Case]:
    """The first and the last of samples that are there, table by table, as cases."""
    rows = [table.row(place, named=True) for table in drawn if table.height for place in (0, -1)]
    return list(
        dict.fromkeys(case_of(row)._replace(completion=row["completion"], nll=row["nll"]) for row in rows)
    )


def case_of(row: dict[str, Any]) -> Case:
    """The prompt of a row of the table of prompts."""
    messages = row["messages"] if row["messages"] is None else of_dicts(row["messages"])
    return Case(row["prompt_index"], row["prompt"], messages=messages)


def try_draw(p0: P0, device: str, batch_size: int, tried: Sequence[Case]) -> list[Case]:
    """Draw from `p0` before the run, to fail early.

    Args:
        p0: what to draw from.
        device: where.
        batch_size: as in a draw.
        tried: prompts to try in turn.

    Returns:
        The cases with a completion that was drawn at one of them.

    Raises:
        ModelError: where none can be drawn, and what an engine raises on purpose.
    """
    is_short = registry.capabilities(p0.model).short_trial
    short = replace(p0, max_new_tokens=min(p0.max_new_tokens, TOKENS)) if is_short else p0

    def draw(case: Case) -> Sample:
        seeds = keys.seeds_for(0, [case.prompt], 0, 1)
        return registry.load(short, device).draw([case.asked], seeds, batch_size)[0][0]

    sample = _first(tried, draw, f"base model {p0.model.name!r}", ModelError)
    return [case._replace(completion=sample.completion, nll=sample.nll) for case in tried] if sample else []


def try_rewards(specs: Sequence[RewardSpec], device: str, tried: Sequence[Case]) -> None:
    """Raise ModelError or RewardError, which name the value, where one can be scored at none of the cases."""
    for spec in specs:

        def score(case: Case, spec: RewardSpec = spec) -> rewards.Scored:
            try:
                return rewards.load(spec, device).score([case.asked], [case.completion], [case.nll])
            except PromptRefused as error:
                raise RewardError(f"value {spec.value!r}: {error}") from error

        _first(tried, score, f"value {spec.value!r} ({spec.model.name})", RewardError)


def _first(tried: Sequence[Case], work: Callable[[Case], R], what: str, kind: type[ExptiltError]) -> R | None:
    """The result of `work` for the first case that it does not fail at.

    None without cases, and where the device fails or an OSError may be gone at another try. Raises the first
    failure where all cases fail.
    """
    failures: list[ExptiltError] = []
    for case in tried:
        try:
            return work(case)
        except (PromptRefused, RewardError) as error:
            failures.append(error)
        except ExptiltError:
            raise
        except Exception as error:
            if isinstance(error, OSError) or is_the_devices(error):
                return None
            failures.append(kind(f"{what} fails at {case}: {_described(error)}"))
    if failures:
        raise failures[0]
    return None


def _described(error: Exception) -> str:
    """The error's type, text and place in one line."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {text[:200]} ({where.filename.rpartition('/')[2]}:{where.lineno})"
