"""A value as the user writes it, in parts.

It is written [NAME=]SOURCE[#LABEL][:prob|:logprob][:text|:pair|:chat|:completion]. SOURCE is a name, a
FILE.py:function, or, with NAME=, a Hub id, a local folder, or a model behind a server as URL#MODEL. A judge
is written NAME=RUBRIC@URL#MODEL, RUBRIC a file.
"""

import re
from dataclasses import dataclass
from typing import Final, cast

from exptilt.models.reference import is_url
from exptilt.rewards.base import Form, Transform

END: Final = (
    r"(?:#(?P<label>[^:#]+))?(?::(?P<transform>prob|logprob))?(?::(?P<form>text|pair|chat|completion))?"
)
NAME: Final = r"(?:(?P<name>[\w.-]+)=)?"
VALUE: Final = re.compile(rf"{NAME}(?P<source>[^=#]+?){END}")
SERVED: Final = re.compile(rf"{NAME}(?:(?P<rubric>[^=]+?)@)?(?P<source>https?://[^#]+?(?:#[^#]*?)?){END}")
FUNCTION: Final = re.compile(r"(?P<path>.+\.py):(?P<function>[A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A value as the user wrote it, in parts; `form` is None where it says none, `rubric` a judge's file."""

    name: str
    source: str
    label: str
    transform: Transform
    form: Form | None = None
    rubric: str = ""

    @property
    def column(self) -> str:
        """The column that the value fills: what the user called it, or what names it best."""
        function = FUNCTION.fullmatch(self.source)
        plain = self.name or (function["function"] if function else self.source)
        shown = "" if self.name or not self.label else f"#{self.label}"
        transform = "" if self.transform == "logit" else f":{self.transform}"
        return plain + shown + transform + (f":{self.form}" if self.form and not self.name else "")

    @property
    def is_served(self) -> bool:
        """Whether the source is behind a server."""
        return is_url(self.source)


def parts(value: str) -> Asked | None:
    """The parts of `value`; None where it is not written as a value is."""
    found = SERVED.fullmatch(value) or VALUE.fullmatch(value)
    if not found:
        return None
    return Asked(
        name=found["name"] or "",
        source=found["source"],
        label=found["label"] or "",
        transform=cast(Transform, found["transform"] or "logit"),
        form=cast(Form | None, found["form"]),
        rubric=found.groupdict().get("rubric") or "",
    )
