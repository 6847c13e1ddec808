"""The prompts of a run: those of its range that can be drawn from, and which ones cannot."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

import polars as pl

from exptilt.config.settings import Config
from exptilt.data import prompts
from exptilt.engines import registry
from exptilt.engines.base import P0
from exptilt.errors import ConfigError
from exptilt.planning.base_model import is_opened
from exptilt.planning.prompt_length import fit
from exptilt.stages.blocks import numbers_of
from exptilt.storage.spooled_tables import Spool
from exptilt.wording import counted


@dataclass(slots=True)
class Chosen:
    """The prompts of a run.

    Attributes:
        rows: the table of prompts.
        blocks: how many of them each block has.
        skipped: why a prompt is left out, by its index.
        truncated: the indices of those that were cut.
        opened: whether p0 leaves special tokens around them out.
        column: the column that they stand in, "" where the source has none.
        in_chat: whether they are conversations.
    """

    rows: Spool = field(default_factory=Spool)
    blocks: Counter[int] = field(default_factory=Counter)
    skipped: dict[int, str] = field(default_factory=dict)
    truncated: list[int] = field(default_factory=list)
    opened: bool = False
    column: str = ""
    in_chat: bool = False

    @property
    def form(self) -> str:
        """That prompts are conversations, and in which column; "" where they are texts."""
        return f" (conversations{self.in_column})" if self.in_chat else ""

    @property
    def in_column(self) -> str:
        """Where they stand, in words."""
        return f" in column {self.column!r}" if self.column else ""


def source(config: Config, chosen: Chosen, p0: P0) -> Iterator[pl.DataFrame]:
    """The prompts of `config` in its range, table by table.

    `chosen` is told their column and form, and of rows that are no prompt where they may be left out. Raises
    ConfigError and PromptError as data.prompts.values and tables_of.
    """
    given = prompts.values(config.data, config.prompt_column)
    head = list(islice(given, 1))
    chosen.column = head[0].column if head else ""
    tables = prompts.tables_of(
        chain(head, given),
        config.data,
        system=config.system,
        in_chat=config.chat,
        unusable=chosen.skipped if config.on_long_prompt == "skip" else None,
        names=lambda: registry.template_names(p0.model, p0.template),
    )
    first = next(tables)
    chosen.in_chat = first["messages"][0] is not None
    return _slice(chain([first], tables), config)


def _slice(tables: Iterable[pl.DataFrame], config: Config) -> Iterator[pl.DataFrame]:
    """The prompts start..end-1."""
    total = 0
    for table in tables:
        total = int(table["prompt_index"][-1]) + 1
        below = pl.lit(True) if config.end is None else pl.col("prompt_index") < config.end
        part = table.filter((pl.col("prompt_index") >= config.start) & below)
        if part.height:
            yield part
        if config.end is not None and total >= config.end:
            break
    if total <= config.start:
        raise ConfigError(
            f"the range --start {config.start} --end {config.end} is empty: "
            f"{config.data} has {counted(total, 'prompt')}"
        )


def choose(tables: Iterator[pl.DataFrame], config: Config, p0: P0, chosen: Chosen) -> None:
    """Enter the prompts of `tables` that p0 can be drawn from; errors as prompt_length.fit."""
    for fitted in fit(tables, p0, config.on_long_prompt):
        chosen.rows.append(fitted.table)
        chosen.blocks.update(numbers_of(fitted.table["prompt_index"]).tolist())
        chosen.skipped |= fitted.skipped
        chosen.truncated += fitted.truncated
        texts = fitted.table["prompt"].to_list()
        chosen.opened = chosen.opened or (not p0.chat and is_opened(p0.model, texts))
    last = float("inf") if config.end is None else config.end
    inside = {index: why for index, why in chosen.skipped.items() if config.start <= index < last}
    chosen.skipped = dict(sorted(inside.items()))
