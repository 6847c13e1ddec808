"""The embedded default: a tiny language model, two tiny reward models and prompts, on disk."""

from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
MODEL: Final = _HERE / "model"
REWARDS: Final = {"humor": _HERE / "humor", "positive": _HERE / "positive"}
PROMPTS: Final = _HERE / "prompts.txt"
