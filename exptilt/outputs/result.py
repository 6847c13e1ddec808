"""What a run wrote, as Python sees it: its summary, its paths, and its tables as polars frames."""

import io
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl
from rich.console import Console

from exptilt.data import record_files
from exptilt.errors import MissingError
from exptilt.reports.frontier import Frontier
from exptilt.reports.palette_answer import Found
from exptilt.reports.scores import Scores
from exptilt.reports.summary import Summary
from exptilt.reports.terminal import UNCUT, Outcome, show
from exptilt.run import Run
from exptilt.storage import filesystem, pool


@dataclass(frozen=True)
class Result:
    """A finished run: `summary` has its numbers, and print shows it; frames are read at their first use, from
    where `run` has its S3."""

    summary: Outcome
    run: Run = field(repr=False, compare=False)

    @property
    def paths(self) -> dict[str, str]:
        """Where things lie, by what they are."""
        match self.summary:
            case Scores(file=file):
                return {"records": file}
            case Found(json=json):
                return {"answer": json, "page": self.summary.page}
            case Frontier(json=json, folder=folder):
                picture = {"picture": f"{folder}/frontier.png", "page": f"{folder}/index.html"}
                return {"points": json, "folder": folder, **picture, **dict(self.summary.saved)}
            case Summary(json=json, folder=folder):
                return {"records": json, "folder": folder, "page": f"{folder}/index.html"}

    @cached_property
    def records(self) -> pl.DataFrame:
        """One row per completion kept (prompt_id, prompt, generated, …) or record scored; per λ of a sweep;
        per value of a palette."""
        match self.summary:
            case Summary():
                return self.table("records")
            case Scores(file=file):
                with self.run.entered():
                    return _frame([row for block in record_files.blocks(file) for row in block.records])
            case Found(json=json):
                return _frame(self._json(json)["palette"]["levels"])
            case Frontier(json=json):
                return _frame(self._json(json))

    @cached_property
    def samples(self) -> pl.DataFrame:
        """Every sample drawn, one row each."""
        return self.table("samples")

    @cached_property
    def rewards(self) -> pl.DataFrame:
        """The rewards, one row per sample and value."""
        return self.table("rewards")

    @cached_property
    def diagnostics(self) -> pl.DataFrame:
        """How good the tilt is, one row per prompt."""
        return self.table("diagnostics")

    def table(self, name: str) -> pl.DataFrame:
        """Table `name` of the data set: prompts, samples, rewards, draws, levels, pairs, …

        Raises:
            MissingError: the run wrote no such table.
        """
        folder = self.summary.folder if isinstance(self.summary, Summary) else ""
        listed = self._json(filesystem.join(folder, pool.MANIFEST))["files"] if folder else {}
        paths = [filesystem.join(folder, path) for path in listed if path.startswith(f"{name}/")]
        if not paths:
            raise MissingError(f"this run wrote no table {name!r}")
        with self.run.entered():
            return pl.concat(pl.read_parquet(filesystem.read_bytes(path)) for path in paths)

    def _json(self, path: str) -> Any:
        with self.run.entered():
            return filesystem.read_json(path)

    def __str__(self) -> str:
        text = io.StringIO()
        show(self.summary, Console(file=text, width=UNCUT))
        return text.getvalue().rstrip()


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None)
