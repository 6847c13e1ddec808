"""A trial while planning: what fails at every prompt fails at a few, before any work starts."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
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
    """A prompt to try, and completions [N] of it with their nll: one, or as many as a group has."""

    prompt_index: int
    prompt: str
    completions: tuple[str, ...] = ()
    nlls: tuple[float | None, ...] = ()
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
    """The first and the last prompt of samples that are there, table by table, as cases."""
    ends = [(table, table["prompt_id"][place]) for table in drawn if table.height for place in (0, -1)]
    cases = [_drawn_case(table.filter(pl.col("prompt_id") == prompt_id)) for table, prompt_id in ends]
    return list(dict.fromkeys(cases))


def _drawn_case(samples: pl.DataFrame) -> Case:
    """A prompt with its samples."""
    completions, nlls = samples["completion"].to_list(), samples["nll"].to_list()
    return case_of(samples.row(0, named=True))._replace(completions=tuple(completions), nlls=tuple(nlls))


def case_of(row: dict[str, Any]) -> Case:
    """The prompt of a row of the table of prompts."""
    messages = row["messages"] if row["messages"] is None else of_dicts(row["messages"])
    return Case(row["prompt_index"], row["prompt"], messages=messages)


def try_draw(p0: P0, device: str, batch_size: int, tried: Sequence[Case], n: int = 1) -> list[Case]:
    """Draw from `p0` before the run, to fail early.

    Args:
        p0: what to draw from.
        device: where.
        batch_size: as in a draw.
        tried: prompts to try in turn.
        n: completions to draw.

    Returns:
        The cases with the completions that were drawn at one of them.

    Raises:
        ModelError: where none can be drawn, and what an engine raises on purpose.
    """
    is_short = registry.capabilities(p0.model).short_trial
    short = replace(p0, max_new_tokens=min(p0.max_new_tokens, TOKENS)) if is_short else p0

    def draw(case: Case) -> list[Sample]:
        seeds = keys.seeds_for(0, [case.prompt], 0, n)
        return registry.load(short, device).draw([case.asked], seeds, batch_size)[0]

    samples = _first(tried, draw, f"base model {p0.model.name!r}", ModelError) or []
    completions, nlls = tuple(s.completion for s in samples), tuple(s.nll for s in samples)
    return [case._replace(completions=completions, nlls=nlls) for case in tried] if samples else []


def found_null(p0: P0, device: str) -> dict[str, str]:
    """Why columns of the samples are null, as the engine that was tried has found."""
    if not registry.capabilities(p0.model).finds_likelihood:
        return {}
    return dict(registry.load(p0, device).notes.get("null", {}))


def why_no_nll(drawn: Sequence[Case]) -> str:
    """Why samples of the pool have no nll, "" where some have."""
    nlls = [nll for case in drawn for nll in case.nlls]
    has_none = bool(nlls) and all(nll is None for nll in nlls)
    return "those in the pool have none; another --save-directory draws anew" if has_none else ""


def check_nll(specs: Sequence[RewardSpec], p0: P0, why: str) -> None:
    """Raise ModelError where a value needs the samples' nll, and a server gave none; `why` not, "" where it
    did."""
    needing = [spec for spec in specs if any(rewards.needs_of(s) == "base model" for s in spec.sources)]
    can = registry.capabilities(p0.model)
    if why and needing and can.finds_likelihood and not can.gives_likelihood:
        raise ModelError(
            f"value {needing[0].value!r} needs the samples' nll, which {p0.model.name} did not give: {why}"
        )


def try_rewards(
    specs: Sequence[RewardSpec], device: str, tried: Sequence[Case], twice: bool = False
) -> tuple[str, ...]:
    """Score at some cases before the run, to fail early.

    Args:
        specs: the values.
        device: where.
        tried: prompts with completions to try in turn.
        twice: whether to look for values that give one text several numbers.

    Returns:
        The names of those that were found to do so.

    Raises:
        ModelError, RewardError: where a value, which is named, can be scored at none of the cases.
    """
    unsteady = list[str]()
    for spec in (source for asked in specs for source in asked.sources):
        cases = [case for case in tried if spec.group is None or _differ(case.completions)]
        found = [_try_reward(spec, device, cases) for _ in range(1 + twice)]
        if not np.array_equal(found[0], found[-1]):
            unsteady.append(spec.value)
    return tuple(unsteady)


def _try_reward(spec: RewardSpec, device: str, cases: Sequence[Case]) -> list[float]:
    """The rewards of the first case that can be scored; none where there is none, or none can now."""

    def score(case: Case) -> rewards.Scored:
        n = 1 if spec.group is None else len(case.completions)
        prompts = [case.asked] * n
        try:
            return rewards.load(spec, device).score(prompts, case.completions[:n], case.nlls[:n])
        except PromptRefused as error:
            raise RewardError(f"value {spec.value!r}: {error}") from error

    found = _first(cases, score, f"value {spec.value!r} ({spec.model.name})", RewardError)
    return found.rewards.tolist() if found else []


def _differ(completions: Sequence[str]) -> bool:
    """Whether a group tells how a run's will be: a short draw may give one text throughout."""
    return len(completions) == 1 or len(set(completions)) > 1


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
