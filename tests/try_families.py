"""Try every causal language model of the library that can be built small; print the table for the docs.

python tests/try_families.py > docs/reference/families.md      (or: make families)
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from families import FAMILIES, causal_model
from test_families import engine_of, error_of, way_of_classifier
from transformers import AutoModelForCausalLM

from exptilt.errors import ModelError
from exptilt.models.forward import logits_of

BOUND = 1e-4
HEAD = f"""# Families

How each causal language model of transformers {transformers.__version__} is drawn from, tried with small
random weights in float32 (`make families`): log p0 and NLL of samples equal a pass without a cache over the
text alone, to {BOUND:g}, for prompts drawn alone and beside longer ones. A model that a run loads is tried in
the same way, with its own weights and type, before anything is drawn; the manifest says which way was taken
(`drawn`).

- **shared**: a prompt is computed once, and its cache serves all of its samples.
- **captured**: that, a step's operations begun at once, on a GPU alone; this table is a CPU's.
- **copied**: a prompt is computed once, and each sample gets a copy of its cache.
- **plain**: by the library's `generate`, prompts of one length together: hybrid and state-space models.
- **uncached**: a pass over the whole text for every token: exact, and slow.
- **refused**: in one line, while planning.

The last column is the family's sequence classifier as a reward model: beginnings that texts share computed
once, texts in padded batches, or each text alone. Small models that the library itself can't build or run are
not tried.

| family | class | drawn | scored |
|---|---|---|---|"""


def row(family: str, folder: Path) -> str:
    """A family's row."""
    kind, drawn = _drawn(family, folder / "base")
    scored = _or_why_not(lambda: way_of_classifier(family, folder / "reward"))
    return f"| {family} | {kind} | {drawn} | {scored} |"


def _drawn(family: str, folder: Path) -> tuple[str, str]:
    """The class, and how it is drawn from; raises AssertionError where that is not exact."""
    try:
        source = causal_model(family, folder)
        model = AutoModelForCausalLM.from_pretrained(source)
        with torch.no_grad():
            logits_of(model, torch.tensor([[1, 2, 3]]), torch.ones(1, 3, dtype=torch.long))
    except Exception as error:
        return "", _not_tried(error)
    try:
        engine = engine_of(source)
    except ModelError as error:
        return type(model).__name__, f"refused: {_reason(str(error))}"
    error = error_of(engine)
    assert error < BOUND, (family, error)
    return type(model).__name__, engine.way


def _reason(said: str) -> str:
    reasons = ("an encoder-decoder model, or a part of one", "not a causal language model")
    return next((reason for reason in reasons if reason in said), "its numbers depend on other texts")


def _or_why_not(way: Callable[[], str]) -> str:
    try:
        return way()
    except AssertionError:
        raise
    except Exception as error:
        return _not_tried(error)


def _not_tried(error: Exception) -> str:
    first = next(iter(str(error).splitlines()), "") or type(error).__name__
    return f"not tried ({first[:60].replace('|', '/')})"


def main() -> None:
    torch.set_num_threads(1)
    print(HEAD)
    failed = 0
    for family in sys.argv[1:] or FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                print(row(family, Path(folder)), flush=True)
            except AssertionError as error:
                failed += 1
                print(f"{family} is not exact: {error}", file=sys.stderr, flush=True)
    sys.exit(min(failed, 1))


if __name__ == "__main__":
    main()
