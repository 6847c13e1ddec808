"""The console command `exptilt`: the kinds of runs by name, without a Prefect server."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, Final, NoReturn

from exptilt import __version__, tools
from exptilt.config.command_line import BAD_INPUT, command_line, fail, fail_run
from exptilt.config.exploration import Palette, Sweep
from exptilt.config.scoring import Scoring
from exptilt.config.settings import MCAligned, Original
from exptilt.errors import ExptiltError, PushFailed
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
SAVED: Final = "error: stopped; finished shards are saved, run the same command to go on"
GRACE_SECONDS: Final = 4.0  # that a step has to notice a signal


def main() -> NoReturn:
    """Run what the command line names; exits with 0, 1 (failed), 2 (bad input), 130 or 143 (a signal)."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "--version"):
        print(f"exptilt {__version__}" if name == "--version" else _help())
        sys.exit(0)
    if name in tools.TOOLS:
        tools.run(name, arguments)
    if name not in RUNS:
        known = ", ".join([*RUNS, *tools.TOOLS])
        fail(f"exptilt {name}: name one of {known}; exptilt --help says more", BAD_INPUT)
    model: Any = RUNS[name]
    config = command_line(model, arguments, f"exptilt {name}", CLOSING)
    _at_signals(_end)
    sys.exit(_run(config))


def _help() -> str:
    lines = [f"  {name:<12}{(model.__doc__ or '').splitlines()[0]}" for name, model in RUNS.items()]
    lines += [f"  {name:<12}{tool.help}" for name, tool in tools.TOOLS.items()]
    example = "usage: exptilt mc-aligned --lam -0.5 --value humor --nsamples 50"
    return "\n".join([example, "", *lines, "", "exptilt NAME --help lists the flags.", CLOSING])


def _run(config: Any) -> int:
    """The exit code, once all is done and shown."""
    from exptilt import local_run
    from exptilt.outputs.progress import watched
    from exptilt.reports.terminal import console, show, show_saved

    try:
        plan = local_run.prepare(config)
    except ExptiltError as error:
        fail(str(error))
    print(plan.opening, file=sys.stderr, flush=True)
    try:
        outcome = local_run.run(plan, watched)
    except Exception as error:
        if isinstance(error, PushFailed):
            show_saved(error)
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
