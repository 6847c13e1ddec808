"""The console command `exptilt`: the kinds of runs by name, without a Prefect server."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, NoReturn

from exptilt import __version__
from exptilt.config.command_line import BAD_INPUT, command_line, fail, fail_run
from exptilt.config.exploration import Palette, Sweep
from exptilt.config.field_types import split
from exptilt.config.scoring import Scoring
from exptilt.config.settings import MCAligned, Original
from exptilt.errors import ConfigError, ExptiltError
from exptilt.run import current

RUNS: Final = {
    "original": Original,
    "mc-aligned": MCAligned,
    "score": Scoring,
    "sweep": Sweep,
    "palette": Palette,
}
CLOSING: Final = (
    "Shards run in this process, one at a time on each device. The same runs as Prefect DAGs, which score a "
    "shard while the next is drawn, with a UI and deployments, come with the checkout: python flows/..."
)
ENSEMBLE: Final = "Print the file of an ensemble: the mean and sd of its members over a run's samples."
ONE_PROMPT: Final = "Print a prompt of a data set with its completions, by weight."
SAVED: Final = "error: stopped; finished shards are saved, run the same command to go on"
GRACE_SECONDS: Final = 4.0  # that a step has to notice a signal


def main() -> NoReturn:
    """Run what the command line names; exits with 0, 1 (failed), 2 (bad input), 130 or 143 (a signal)."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "--version"):
        print(f"exptilt {__version__}" if name == "--version" else _help())
        sys.exit(0)
    if name in OTHERS:
        OTHERS[name](arguments)
    if name not in RUNS:
        known = ", ".join([*RUNS, *OTHERS])
        fail(f"exptilt {name}: name one of {known}; exptilt --help says more", BAD_INPUT)
    model: Any = RUNS[name]
    config = command_line(model, arguments, f"exptilt {name}", CLOSING)
    _at_signals(_end)
    sys.exit(_run(config))


def _constants(arguments: list[str]) -> NoReturn:
    """Print an ensemble's file from the folder of a finished run."""
    parser = argparse.ArgumentParser("exptilt constants", description=ENSEMBLE)
    parser.add_argument("folder", help="the data set of a run that scored the members")
    parser.add_argument("--value", default="", help="members, a comma list; all values of the run if none")
    given = parser.parse_args(arguments)
    from exptilt.outputs.constants import constants

    try:
        print(constants(given.folder, split(given.value)))
    except ExptiltError as error:
        fail(str(error))
    sys.exit(0)


def _show(arguments: list[str]) -> NoReturn:
    """Print a prompt of a finished run with its completions."""
    parser = argparse.ArgumentParser("exptilt show", description=ONE_PROMPT)
    parser.add_argument("folder", help="the data set of a run, local or on S3")
    parser.add_argument("--prompt", default="", help="its id or its index; the first one if none")
    given = parser.parse_args(arguments)
    from exptilt.outputs import saved_prompt
    from exptilt.reports import terminal, terminal_prompt

    try:
        prompt = saved_prompt.find(given.folder, given.prompt)
    except ConfigError as error:
        fail(str(error), BAD_INPUT)
    except ExptiltError as error:
        fail(str(error))
    terminal_prompt.show(prompt, terminal.console())
    sys.exit(0)


OTHERS: Final[dict[str, Callable[[list[str]], NoReturn]]] = {"show": _show, "constants": _constants}


def _help() -> str:
    lines = [f"  {name:<12}{(model.__doc__ or '').splitlines()[0]}" for name, model in RUNS.items()]
    lines += [f"  {'show':<12}{ONE_PROMPT}", f"  {'constants':<12}{ENSEMBLE}"]
    example = "usage: exptilt mc-aligned --lam -0.5 --value humor --nsamples 50"
    return "\n".join([example, "", *lines, "", "exptilt NAME --help lists the flags.", CLOSING])


def _run(config: Any) -> int:
    """The exit code, once all is done and shown."""
    from exptilt import local_run
    from exptilt.reports.progress import watched
    from exptilt.reports.terminal import console, show

    try:
        plan = local_run.prepare(config)
    except ExptiltError as error:
        fail(str(error))
    print(plan.opening, file=sys.stderr, flush=True)
    try:
        outcome = local_run.run(plan, watched)
    except Exception as error:
        fail_run(error)
    show(outcome, console())
    return getattr(outcome, "exit_code", 0)


def _at_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End the run with one line; a step that does not notice, such as a user's function, is cut off.

    A second signal would break off what gives the run's shards back.
    """
    _at_signals(signal.SIG_IGN)
    current().stop()
    late = threading.Timer(GRACE_SECONDS, os._exit, [128 + number])
    late.daemon = True
    late.start()
    print(SAVED, file=sys.stderr, flush=True)
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
