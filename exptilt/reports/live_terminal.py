"""A run at a terminal while it runs: figures that are drawn anew in place, what is printed above them."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from exptilt.reports import live_text
from exptilt.reports.remaining import share_done
from exptilt.reports.standing import Standing

PER_SECOND: Final = 1  # times that the figures are drawn anew
BAR: Final = 40  # columns


def is_live(console: Console) -> bool:
    """Whether `console` is a terminal that can be drawn on; a log that takes colours, as in CI, is none."""
    return console.file.isatty() and console.is_terminal and not console.is_dumb_terminal


@contextmanager
def shown(console: Console, now: Callable[[], Standing]) -> Iterator[None]:
    """Show the figures that `now` gives, for the length of the block, where `console` is a terminal."""
    if not is_live(console):
        yield
        return
    live = Live(
        console=console,
        get_renderable=lambda: figures(now()),
        refresh_per_second=PER_SECOND,
        transient=True,
    )
    with live, _logging_above():
        yield


@contextmanager
def _logging_above() -> Iterator[None]:
    """Hand the streams of the live display to the log handlers that write to this process's own.

    Such a handler has kept the stream of before the display, and would write into it.
    """
    streams = {sys.__stderr__: sys.stderr, sys.__stdout__: sys.stdout}
    with ExitStack() as handed:
        for handler in _stream_handlers():
            if handler.stream in streams:
                before = handler.setStream(streams[handler.stream])
                handed.callback(handler.setStream, before)
        yield


def _stream_handlers() -> set[logging.StreamHandler[Any]]:
    names = list(logging.root.manager.loggerDict)
    loggers = [logging.root, *(logging.getLogger(name) for name in names)]
    handlers = (handler for logger in loggers for handler in logger.handlers)
    return {handler for handler in handlers if isinstance(handler, logging.StreamHandler)}


def figures(standing: Standing) -> RenderableType:
    """The figures as they stand at the terminal; a narrow one cuts their lines."""
    table = Table.grid(padding=(0, 2))
    for name, said in live_text.rows(standing):
        table.add_row(_line(name, "dim"), _line(said))
    for value, *means in live_text.value_rows(standing):
        table.add_row(_line(value, "dim"), _line(" → ".join(means)))
    return Group(_bar(standing), table)


def _bar(standing: Standing) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    said = f"{live_text.percent(standing)}  {live_text.time_left(standing)}"
    grid.add_row(ProgressBar(total=1.0, completed=share_done(standing), width=BAR), _line(said))
    return grid


def _line(said: str, style: str = "") -> Text:
    return Text(said, style=style, no_wrap=True, overflow="ellipsis")
