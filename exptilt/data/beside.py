"""Columns beside a conversation that say more of what a model is to see: tools, images, a system text.

A run draws from the conversation alone, so such a column is refused where it is given and would count.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from exptilt.conversation import Prompt, turns
from exptilt.data.conversations import MEDIA_KEYS, Unusable

Names = Callable[[], frozenset[str] | None]  # what the chat template reads, None where that is not known

TOOLS: Final = ("tools", "functions", "documents")  # templates show them, if they read such names
SYSTEM: Final = ("system", "system_prompt")
OPTIONS: Final = "chat_template_kwargs"
COLUMNS: Final = (*TOOLS, *MEDIA_KEYS, *SYSTEM, OPTIONS)
NOTHING: Final = ("", "[]", "{}", "null")
DROP: Final = ": drop the column to do without it"


def columns(names: Iterable[str], column: str) -> list[str]:
    """Those of a table's columns that stand beside conversations in `column`."""
    return [name for name in names if name in COLUMNS and name != column]


def given(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    """Those of a row's columns that stand beside the conversation in `column` and hold something."""
    return {name: row[name] for name in columns(row, column) if row[name] is not False and _holds(row[name])}


def _holds(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip() not in NOTHING
    if isinstance(value, Mapping):
        return any(map(_holds, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds, value))
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def check(beside: Mapping[str, Any], prompt: Prompt, names: Names) -> None:
    """Raise Unusable, which names the column, where the model would see more than the prompt."""
    for name, value in beside.items():
        if name in TOOLS and _is_read(name, names()):
            shows = "may show" if names() is None else "shows"
            raise Unusable(f"with {name}", f"has {name!r} beside it, which the chat template {shows}{DROP}")
        if name in MEDIA_KEYS:
            raise Unusable("with images", f"has {name!r} beside it, and only texts are supported{DROP}")
        if name in SYSTEM and not _is_said(value, prompt):
            raise Unusable(
                "with a system column",
                f"has {name!r} beside it, which is no turn of it: put it into the conversation as the first "
                "turn, with the role system, or drop the column",
            )
        if name == OPTIONS:
            raise Unusable(
                "with template options",
                f"has {name!r} beside it: give one set for all prompts by --template-options, and drop the "
                "column",
            )


def _is_read(name: str, read: frozenset[str] | None) -> bool:
    """Whether a template that reads these names shows what the column holds: functions are tools."""
    return read is None or name in read or (name == "functions" and "tools" in read)


def _is_said(value: Any, prompt: Prompt) -> bool:
    """Whether a conversation begins with the system turn that its column holds."""
    role, content = turns(prompt)[0]
    return role == "system" and isinstance(value, str) and content.strip() == value.strip()
