"""A hook of MkDocs: what pages say of flags, commands and tables comes from the code that defines them.

A line `<!-- generated: flags mc-aligned -->` of a page is replaced by that command's flags, `commands` by
a list of all, `others` by the help of those that are no runs, `table samples` by the columns of that table.
"""

import html
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from exptilt.command import RUNS
from exptilt.config import flag_groups
from exptilt.config.flags import Flag, flag
from exptilt.storage import schemas
from exptilt.tools import TOOLS

MARK: Final = re.compile(r"^<!-- generated: (\w+) ?([\w-]*) -->$", re.MULTILINE)
COLUMNS: Final = Path(__file__).parents[1] / "reference" / "columns.toml"
TYPES: Final = {"String": "text", "Categorical": "category", "Boolean": "bool"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page's text with all that is generated put in."""
    return MARK.sub(lambda found: GENERATORS[found[1]](found[2]), markdown)


def flags(command: str) -> str:
    """A table of flags for each group of `command`."""
    model: Any = RUNS[command]
    fields = model.model_fields
    grouped = {
        title: [flag(name, fields[name]) for name in names]
        for title, names in flag_groups.of(list(fields)).items()
    }
    last = list(grouped)[-1]
    grouped[last].append(Flag("--config", "FILE.toml", False, "", "settings from a file, under flags"))
    return "\n".join(_group(command, title, listed) for title, listed in grouped.items())


def _group(command: str, title: str, listed: list[Flag]) -> str:
    rows = "\n".join(_row(command, each) for each in listed)
    return f"### {command}: {title}\n\n| flag | default | what it does |\n|---|---|---|\n{rows}\n"


def _row(command: str, each: Flag) -> str:
    anchor = f'<span id="{command}{each.name[1:]}"></span>'
    takes = "" if "|" in each.takes or not each.takes else f" `{each.takes}`"
    choices = ", ".join(f"`{choice}`" for choice in each.takes.split("|")) if "|" in each.takes else ""
    said = [f"one of {choices}: " if choices else "", plain(each.description)]
    repeat = "; may be repeated" if each.is_many and "repeat" not in each.description else ""
    default = f"`{each.default}`" if each.default else ""
    return f"| {anchor}`{each.name}`{takes} | {default} | {''.join(said)}{repeat} |"


def plain(text: str) -> str:
    """`text` as it is, in a table's cell."""
    return re.sub(r"([*_\[\]|])", r"\\\1", html.escape(text, quote=False))


def commands(_: str) -> str:
    """The commands of `exptilt`, with what each does."""
    said = {name: (model.__doc__ or "").splitlines()[0] for name, model in RUNS.items()}
    said |= {name: _help(name)[1] for name in TOOLS}
    rows = [f"| [`{name}`](#{name}) | {plain(sentence)} |" for name, sentence in said.items()]
    return "\n".join(["| command | what it does |", "|---|---|", *rows])


def others(_: str) -> str:
    """Every command that is no run, with its help."""
    return "\n\n".join(f"## {name}\n\n{_help(name)[1]}\n\n```txt\n{_help(name)[0]}\n```" for name in TOOLS)


def _help(command: str) -> tuple[str, str]:
    """What `exptilt COMMAND --help` prints, and its sentence."""
    run = [sys.executable, "-m", "exptilt.command", command, "--help"]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env={"COLUMNS": "90"})
    return done.stdout.rstrip(), " ".join(done.stdout.split("\n\n")[1].split())


def table(name: str) -> str:
    """The columns of the table `name`: its types from the schema where there is one."""
    described = tomllib.loads(COLUMNS.read_text(encoding="utf-8"))[name]
    schema = schemas.TABLES.get(name)
    if schema is not None and set(schema) != set(described):
        raise ValueError(
            f"{COLUMNS}: {name} has other columns than its schema: {set(schema) ^ set(described)}"
        )
    rows = [_column(column, said, schema) for column, said in described.items()]
    return "\n".join(["| column | type | what it is |", "|---|---|---|", *rows])


def _column(name: str, said: dict[str, str], schema: Any) -> str:
    kind = type_name(schema[name]) if schema is not None else said["type"]
    nullable = "; may be null" if schema is not None and name in schemas.NULLABLE else ""
    return f"| `{name}` | {kind} | {said['is']}{nullable} |"


def type_name(kind: Any) -> str:
    """A type of polars as the reference writes it."""
    text = re.sub(r"\(.*", "", str(kind)) if not str(kind).startswith(("List", "Struct")) else str(kind)
    if text.startswith("List"):
        inner = text[len("List(") : -1]
        return "list of messages" if inner.startswith("Struct") else f"list of {type_name(inner)}"
    return TYPES.get(text, text.lower())


GENERATORS: Final[dict[str, Callable[[str], str]]] = {
    "flags": flags,
    "commands": commands,
    "others": others,
    "table": table,
}
