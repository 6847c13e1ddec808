"""The command line of a flow: its configuration's fields as flags, answered before Prefect loads."""

import argparse
import re
import sys
import tomllib
import traceback
from pathlib import Path
from typing import Any, NoReturn

from exptilt.config import flag_groups
from exptilt.config.flags import Flag, flag
from exptilt.config.validation import C, build
from exptilt.errors import ConfigError, ExptiltError, ShardsFailed
from exptilt.process_setup import set_up

FAILED, BAD_INPUT = 1, 2


def fail(message: str, code: int = BAD_INPUT) -> NoReturn:
    """Print one line on standard error and exit with `code`."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def fail_run(error: BaseException) -> NoReturn:
    """Print what a run failed with and exit with FAILED.

    An error that exptilt did not raise on purpose is a defect and has its traceback printed, too.
    """
    cause = error.__cause__ if isinstance(error, ShardsFailed) else error
    if not isinstance(cause, (ExptiltError, OSError, type(None))):
        traceback.print_exception(cause)
    fail(str(error) or type(error).__name__, FAILED)


def command_line(
    model: type[C], argv: list[str] | None = None, program: str = "", closing: str | None = None
) -> C:
    """The configuration that the command line asks for; one line and exit code 2 where it is not valid.

    Flags win over --config FILE.toml, which wins over the defaults.

    Args:
        model: the configuration's class.
        argv: the arguments, those of the process if None.
        program: what help calls the command, if not python and the script's path.
        closing: the last paragraph of the help.
    """
    set_up()
    arguments = _glue(sys.argv[1:] if argv is None else argv)
    parser = _parser(model, program or f"python {sys.argv[0]}", closing)
    given = vars(parser.parse_args(arguments))
    try:
        return build(model, {**_from_file(given.pop("config", None)), **given})
    except ConfigError as error:
        fail(str(error))


def _glue(argv: list[str]) -> list[str]:
    """Join `--lam -0.5,2` to `--lam=-0.5,2`, which a parser would else take for an unknown flag."""
    joined: list[str] = []
    for argument in argv:
        if joined and re.match(r"-[\d.]", argument) and re.fullmatch(r"--[\w-]+", joined[-1]):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _parser(model: type[C], program: str, closing: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage=f"{program} {flag_groups.example(model)}",
        description=model.__doc__,
        epilog=closing,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=100),
        allow_abbrev=False,
    )
    for title, names in flag_groups.of(list(model.model_fields)).items():
        group = parser.add_argument_group(title)
        for name in names:
            _add_flag(group, flag(name, model.model_fields[name]))
    group.add_argument("--config", metavar="FILE.toml", help="settings from a file, under flags")
    return parser


def _add_flag(parser: argparse._ArgumentGroup, flag: Flag) -> None:
    if not flag.takes:
        parser.add_argument(flag.name, action="store_true", help=flag.description)
        return
    shown = f" (default: {flag.default})" if flag.default else ""
    parser.add_argument(
        flag.name,
        action="append" if flag.is_many else "store",
        metavar=flag.takes,
        help=f"{flag.description}{shown}".replace("%", "%%"),
    )


def _from_file(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--config {path}: not TOML ({error})") from error
    return {name.replace("-", "_"): value for name, value in settings.items()}
