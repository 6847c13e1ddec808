"""Counts and their nouns agree, wherever people are told a number."""

import ast
import re
from pathlib import Path

import pytest

from exptilt.wording import counted

ROOT = Path(__file__).parent.parent
WORDS = "prompts samples shards tokens texts records retries values numbers devices fields"
NOUNS = re.compile(rf" ({WORDS.replace(' ', '|')})\b(?!/s)")
# What stands there before the noun is never 1, or no number.
MANY = {"exptilt/tilting/verdict.py", "exptilt/engines/openai/engine.py", "exptilt/reports/palette_answer.py"}
MANY |= {"exptilt/reports/dataset_card.py"}


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 retries"), (1, "1 retry"), (2, "2 retries"), (1200, "1,200 retries")]
)
def test_a_count_agrees_with_its_noun(count, said):
    assert counted(count, "retry", "retries") == said
    assert counted(count, "shard") == said.replace("retries", "shards").replace("retry", "shard")


def spelled(tree: ast.AST) -> list[str]:
    """The texts behind a plain number in the f-strings of a module."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            for before, after in zip(node.values, node.values[1:], strict=False):
                if isinstance(before, ast.FormattedValue) and isinstance(after, ast.Constant):
                    found.append(str(after.value))
    return found


def test_no_message_puts_a_plural_behind_a_bare_number():
    paths = [*(ROOT / "exptilt").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")]
    for path in paths:
        name = path.relative_to(ROOT).as_posix()
        if name not in MANY:
            texts = [text for text in spelled(ast.parse(path.read_text())) if NOUNS.match(text)]
            assert texts == [], name
