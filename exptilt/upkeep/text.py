"""What a pool holds, as a person reads it: tables of models, stages and outputs, and what is not whole."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.filesize import decimal

from exptilt.reports.terminal import print_facts, print_table
from exptilt.storage import filesystem, pool
from exptilt.upkeep.contents import Contents, Model, Totals
from exptilt.upkeep.references import Output
from exptilt.wording import counted

MODELS: Final = ["model", "settings", "prompts", "n", "samples", "rewards", "size", "written", "outputs"]
STAGES: Final = ["stage", "entries", "rows", "size", "written"]
OUTPUTS: Final = ["output", "entries", "saved"]
UNITS: Final = ((86_400.0, "day"), (3_600.0, "hour"), (60.0, "minute"))
SETTINGS: Final[dict[str, Callable[[Any], str]]] = {
    "dtype": str,
    "temperature": "temperature {:g}".format,
    "top_k": "top-k {}".format,
    "top_p": "top-p {:g}".format,
    "max_new_tokens": lambda count: counted(count, "token"),
    "chat": lambda _: "chat",
    "stop": lambda texts: f"stop {', '.join(map(repr, texts))}",
    "reasoning": "reasoning {}".format,
    "engine": str,
    "seed": "seed {}".format,
}
USUAL: Final = {"temperature": (1, None), "top_p": (1, None), "seed": (0, None)}
MOST: Final = 20  # paths of a kind that are printed
OLD: Final = "names none (an older version): taken for all of its model"


def show(contents: Contents, console: Console) -> None:
    """Print the contents of a pool."""
    now, total = time.time(), contents.total
    where = filesystem.join(contents.root, pool.POOL)
    said = f"{where}: {counted(total.entries, 'entry', 'entries')}, {decimal(total.size)}"
    console.print(f"{said}{_last(total, now)}", highlight=False, soft_wrap=True)
    models = [model for model in contents.models.values() if model.samples.entries or model.values]
    models.sort(key=_shown)
    if models:
        console.print()
        print_table(MODELS, [_model(model, models, now) for model in models], console, left=(1, 3, 5, 7))
    if contents.stages:
        console.print()
        rows = [[name, *_totals(totals), written(totals, now)] for name, totals in contents.stages.items()]
        print_table(STAGES, rows, console)
    console.print()
    outputs = contents.references.outputs
    if outputs:
        print_table(OUTPUTS, sorted(map(_output, outputs)), console)
    print_facts(list(_facts(contents)), console)


def settings(origin: Mapping[str, Any]) -> list[str]:
    """The settings of an origin, each in a word or two, but for those that are the usual ones."""
    p0 = origin.get("p0") or {}
    said = {**p0, "seed": origin.get("seed", 0)}
    shown = [
        (how, said[what]) for what, how in SETTINGS.items() if said.get(what) not in USUAL.get(what, (None,))
    ]
    return [how(value) for how, value in shown]


def name(origin: Mapping[str, Any]) -> str:
    """What an origin is called."""
    if "file" in origin:
        return f"texts of {origin['file']}"
    p0 = origin.get("p0") or {}
    return str(origin.get("name") or p0.get("model") or p0.get("revision") or "(not named)")


def ago(seconds: float) -> str:
    """How long something has been, in one unit."""
    for length, unit in UNITS:
        if seconds >= length:
            return f"{counted(int(seconds / length), unit)} ago"
    return "now" if seconds < 1 else f"{counted(int(seconds), 'second')} ago"


def _model(model: Model, models: Sequence[Model], now: float) -> list[str]:
    said, p0 = settings(model.origin), model.origin.get("p0") or {}
    alike = [other for other in models if _shown(other) == _shown(model)]
    if len(alike) > 1:  # they differ in their weights, their template or their end tokens
        said += [f"revision {str(p0.get('revision', '?')).rpartition(':')[2][:10]}"]
    values = "; ".join(f"{value} {rows:,}" for value, rows in sorted(model.values.items()))
    return [
        name(model.origin),
        ", ".join(said),
        f"{model.starts[0]:,}" if model.starts else "",
        _reach(model),
        f"{model.samples.rows:,}",
        values or "none",
        decimal(model.all.size),
        written(model.all, now),
        str(len(model.outputs)),
    ]


def _shown(model: Model) -> tuple[str, list[str]]:
    return name(model.origin), settings(model.origin)


def _reach(model: Model) -> str:
    """The n that all prompts have, and larger ones that some have."""
    prompts = model.starts[0]
    whole = max((n for n, count in model.reach.items() if count >= prompts), default=0)
    more = [f"{n} for {count:,}" for n, count in sorted(model.reach.items()) if n > whole]
    return "; ".join([*([str(whole)] if whole else []), *more])


def _totals(totals: Totals) -> list[str]:
    return [f"{totals.entries:,}", f"{totals.rows:,}", decimal(totals.size)]


def written(totals: Totals, now: float) -> str:
    """When entries were written, the first and the last."""
    first, last = ago(now - totals.first), ago(now - totals.last)
    return last if first == last else f"{first.removesuffix(' ago')} to {last}"


def _last(totals: Totals, now: float) -> str:
    return f", written {written(totals, now)}" if totals.entries else ""


def _output(output: Output) -> list[str]:
    entries = OLD if output.entries is None else f"{output.entries:,}"
    return [output.path, entries, output.finished or "?"]


def _facts(contents: Contents) -> Iterator[tuple[str, str]]:
    """What is no whole entry, and what is not known."""
    unread = contents.references.unreadable
    yield from _paths("unfinished", contents.partial, "begun, and not finished: a run draws them anew")
    yield from _paths("damaged", contents.damaged, "a run makes them anew (--verify says what is wrong)")
    yield from (("held", f"{path}, by {holder}") for path, holder in contents.leases)
    kinds = {"deaths": "shard", "failed prompts": "block", "temporary": "file"}
    yield from (
        (kind, counted(contents.loose[kind], noun)) for kind, noun in kinds.items() if contents.loose[kind]
    )
    yield from _paths("not known", contents.unknown, "not of the pool, and left alone")
    yield from _paths("unreadable", unread, "what these refer to is not known")


def _paths(what: str, paths: Sequence[str], why: str) -> Iterator[tuple[str, str]]:
    if paths:
        yield what, f"{len(paths):,}; {why}"
        yield from (("", path) for path in paths[:MOST])
        if len(paths) > MOST:
            yield "", f"and {len(paths) - MOST:,} more"
