"""The code blocks of a page of Markdown: what they are, and whether they are to be run.

`sh` and `python` blocks are run, in order, in one folder for each page. A block with a title is written to
the file of that name in place of being run. A `text` block is what the block before it printed, with ... for
what differs from run to run. A comment `<!-- not run: WHY -->` before a block leaves it out; `<!-- run: sh` …
`-->` runs what a reader need not see.
"""

import re
import textwrap
from pathlib import Path
from typing import Final, NamedTuple

FENCE: Final = re.compile(
    r"(?:^[ ]*<!-- not run: (?P<why>[^\n]*?) -->\n\s*)?"
    r"^(?P<indent>[ ]*)(?P<fence>```+)(?P<language>[\w-]*)(?P<options>[^\n]*)\n"
    r"(?P<code>.*?)^(?P=indent)(?P=fence)[ ]*$"
    r"|^<!-- run: (?P<hidden>\w+)\n(?P<unseen>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)
RUN: Final = ("sh", "python")
OUTPUT: Final = "text"


class Block(NamedTuple):
    """A block of a page.

    Attributes:
        line: its first line in the page.
        language: the word behind the fence.
        code: its lines.
        title: the file that it is, "" if none.
        why: why it is not run, "" where it is.
    """

    line: int
    language: str
    code: str
    title: str
    why: str

    @property
    def is_run(self) -> bool:
        """Whether it is code to run."""
        return self.language in RUN and not self.title and not self.why


def blocks(page: Path) -> list[Block]:
    """The blocks of `page`, in order."""
    text = page.read_text(encoding="utf-8")
    return [_block(found, text) for found in FENCE.finditer(text)]


def _block(found: re.Match[str], text: str) -> Block:
    line = text.count("\n", 0, found.start()) + 1
    if found["hidden"]:
        return Block(line, found["hidden"], found["unseen"], "", "")
    title = re.search(r'title="([^"]*)"', found["options"])
    code = textwrap.dedent(found["code"])
    return Block(line, found["language"], code, title[1] if title else "", found["why"] or "")
