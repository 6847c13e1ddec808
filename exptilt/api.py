"""The five kinds of runs as functions: `import exptilt` gives them, and they need no Prefect server.

Their parameters are the settings of the command line; finished work is reused from the pool.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from exptilt import local_run
from exptilt.config.exploration import Palette, Sweep
from exptilt.config.scoring import Scoring
from exptilt.config.settings import MCAligned, Original
from exptilt.config.validation import C, build
from exptilt.data import in_memory
from exptilt.outputs.progress import watched
from exptilt.outputs.result import Result
from exptilt.rewards import column_of
from exptilt.run import Run
from exptilt.storage import paths

F = TypeVar("F", bound=Callable[..., Result])
RETURNS = "Returns:\n    The summary, the paths and the tables of what was written.\n"
RAISES = "Raises:\n    ExptiltError: what to change, or which shards failed; finished shards are saved."


def _with_settings(model: type[BaseModel]) -> Callable[[F], F]:
    """Give a function the signature of `model`'s fields, and their descriptions."""

    def decorate(function: F) -> F:
        signature = inspect.signature(model).replace(return_annotation=Result)
        function.__signature__ = signature  # type: ignore[attr-defined]
        fields = model.model_fields.items()
        arguments = "".join(f"    {name}: {field.description}\n" for name, field in fields)
        function.__doc__ = f"{inspect.getdoc(function)}\n\nArgs:\n{arguments}\n{RETURNS}\n{RAISES}"
        return function

    return decorate


@_with_settings(Original)
def original(**settings: Any) -> Result:
    """Draw completions y ~ p0(y|x); `data` may also be a list of prompts, or a frame."""
    return _done(Original, settings)


@_with_settings(MCAligned)
def mc_aligned(**settings: Any) -> Result:
    """Draw n completions per prompt, score them, and keep those of p0(y|x) exp(Σ λ r(x, y)).

    `data` may also be a list of prompts, or a frame with a column of them.
    """
    return _done(MCAligned, settings)


@_with_settings(Scoring)
def score(**settings: Any) -> Result:
    """Add values to records of completions, messages or pairs.

    `file` may also be a frame or dicts, which stay as they are: the scored records are a file of their own.
    """
    config = build(Scoring, _written(settings))
    if config.output or in_memory.is_named(settings["file"]):
        return run(config)
    values = ",".join(column_of(value) for value in config.values)
    scored = f"{config.file.removesuffix('.jsonl')}_val={values}.jsonl"
    return run(config.model_copy(update={"output": scored}))


@_with_settings(Sweep)
def sweep(**settings: Any) -> Result:
    """Look at many λ over one pool: what each brings and costs; `data` and `file` may also be frames."""
    return _done(Sweep, settings)


@_with_settings(Palette)
def palette(**settings: Any) -> Result:
    """Find the λ of least KL that brings target levels, or say that none can; `data`, `file` as in sweep."""
    return _done(Palette, settings)


def run(config: BaseModel) -> Result:
    """Do all that `config` asks for; standard error shows how far it is."""
    plan = local_run.prepare(config)
    return Result(local_run.run(plan, watched), plan.run)


def _done(model: type[C], settings: dict[str, Any]) -> Result:
    return run(build(model, _written(settings)))


def _written(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with paths as texts, prompts and records that came as objects now in files."""
    given = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
    root, column = given.get("save_directory", "results"), given.get("prompt_column", "prompt")
    with Run(paths.check_endpoint(given.get("endpoint_url", ""))).entered():
        if "data" in given:
            given["data"] = in_memory.prompt_file(given["data"], column, root)
        if "file" in given:
            given["file"] = in_memory.record_file(given["file"], root)
    return given
