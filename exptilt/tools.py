"""The console commands that look at what runs have written: show, constants, pool, push."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from exptilt.config.command_line import BAD_INPUT, FAILED, fail
from exptilt.config.field_types import split
from exptilt.errors import ConfigError, ExptiltError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A command: what help says of it, its flags, and what it does, which gives the exit code."""

    help: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    work: Callable[[argparse.Namespace], int]


def run(name: str, arguments: list[str]) -> NoReturn:
    """Do what the command `name` is asked for; exits with 0, 1 (failed) or 2 (bad input)."""
    tool = TOOLS[name]
    parser = argparse.ArgumentParser(f"exptilt {name}", description=tool.help, allow_abbrev=False)
    tool.add_flags(parser)
    given = parser.parse_args(arguments)
    try:
        sys.exit(tool.work(given))
    except ConfigError as error:
        fail(str(error), BAD_INPUT)
    except ExptiltError as error:
        fail(str(error), FAILED)


def _show_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="the data set of a run, local or on S3")
    parser.add_argument("--prompt", default="", help="its id or its index; the first one if none")


def _show(given: argparse.Namespace) -> int:
    from exptilt.outputs import saved_prompt
    from exptilt.reports import terminal, terminal_prompt

    terminal_prompt.show(saved_prompt.find(given.folder, given.prompt), terminal.console())
    return 0


def _constants_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="the data set of a run that scored the members")
    parser.add_argument("--value", default="", help="members, a comma list; all values of the run if none")


def _constants(given: argparse.Namespace) -> int:
    from exptilt.outputs.constants import constants

    print(constants(given.folder, split(given.value)))
    return 0


def _pool_flags(parser: argparse.ArgumentParser) -> None:
    from exptilt.upkeep import DAYS

    parser.add_argument("folder", help="a --save-directory, local or on S3, or the pool in it")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--verify", action="store_true", help="read every entry, and name what is damaged")
    what.add_argument(
        "--prune", action="store_true", help="list what no output under the save directory refers to"
    )
    parser.add_argument("--yes", action="store_true", help="with --prune: delete it")
    parser.add_argument(
        "--days",
        type=float,
        default=DAYS,
        help="with --prune: keep what was written in the last DAYS days (default: %(default)s)",
    )


def _pool(given: argparse.Namespace) -> int:
    from exptilt.reports.terminal import console
    from exptilt.storage.inventory import root_of
    from exptilt.upkeep import contents, prune, text, verify

    if given.yes and not given.prune:
        raise ConfigError("--yes deletes what --prune lists: give that, too")
    root = root_of(given.folder)
    if given.verify:
        return verify.show(verify.check(root), console())
    if given.prune:
        prune.prune(root, given.days, given.yes, console())
        return 0
    text.show(contents.gather(root), console())
    return 0


def _push_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="the data set of a run, local or on S3")
    parser.add_argument("repository", metavar="ORG/NAME", help="where it goes; made if it is not there")
    parser.add_argument("--license", default="", metavar="ID", help="apache-2.0, cc-by-4.0, other, ...")
    parser.add_argument("--language", default="", metavar="CODE", help="en, or several as en,de")
    parser.add_argument("--public", action="store_true", help="make the repository public")


def _push(given: argparse.Namespace) -> int:
    from exptilt.config import publishing
    from exptilt.data.hub_repository import Repository
    from exptilt.outputs.publish import push

    languages = tuple(split(given.language))
    publishing.check(given.repository, given.license, languages, "--")
    to = Repository(name=given.repository, license=given.license, languages=languages, public=given.public)
    print(f"pushed to {push(given.folder, to)}")
    return 0


TOOLS: Final = {
    "show": Tool(
        help="Print a prompt of a data set with its completions, by weight.",
        add_flags=_show_flags,
        work=_show,
    ),
    "constants": Tool(
        help="Print the file of an ensemble: the mean and sd of its members over a run's samples.",
        add_flags=_constants_flags,
        work=_constants,
    ),
    "pool": Tool(
        help="List what lies in a pool; verify it, or delete what no output refers to.",
        add_flags=_pool_flags,
        work=_pool,
    ),
    "push": Tool(
        help="Put a data set on the Hugging Face Hub, private unless --public.",
        add_flags=_push_flags,
        work=_push,
    ),
}
