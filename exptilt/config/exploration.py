"""The configurations that look at many tilts of one pool: a sweep over λ, a palette of target levels."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, Field, model_validator

from exptilt.config import lam as lams
from exptilt.config.checks import check_values
from exptilt.config.field_types import Items, Names, Places, Specs
from exptilt.config.settings import Valued
from exptilt.errors import ConfigError

if TYPE_CHECKING:
    from exptilt.config.lambda_grid import Lam
    from exptilt.config.targets import Target


class _Source(BaseModel):
    file: Places = Field(
        default="",
        description="scored .json, .jsonl, .csv or .parquet files whose samples and values are used",
    )
    generated_column: str = Field(
        default="generated", description="the file's key that holds prompt + completion"
    )


class _Vectors(BaseModel):
    lam: Specs = Field(
        default=("humor=-1:1:0.25",),
        description="λ: a grid humor=-1:1:0.25, a vector humor=-0.5,positive=2 or -0.5,2 (repeat for more), "
        "or simplex:COUNT:SUM",
    )
    save: Items = Field(default=(), description="save the data set of these λ, by number, or of all")


class _Targets(BaseModel):
    target: Items = Field(
        default=("humor=+0.1",),
        description="target levels: humor=2.1, humor=+0.3, humor=q70 or humor=keep; <= at most, == exactly",
    )
    pooled: bool = Field(default=False, description="one normaliser for all prompts, as MAP has it")


class _Explored(Valued, _Source):
    @model_validator(mode="after")
    def _known_values(self) -> Self:
        if not self.file:
            check_values(self.values)
        return self


class Sweep(_Explored, _Vectors):
    """Look at many λ over one pool: what each brings, and what it costs."""

    @property
    def vectors(self) -> "list[Lam]":
        """Every λ of the sweep."""
        from exptilt.config import lambda_grid

        return lambda_grid.vectors(self.lam, self.values, self.seed)

    @property
    def lams(self) -> "list[Lam]":
        """λ = 0, which is p0, and every λ of the sweep: what is looked at, in order."""
        return [dict.fromkeys(self.columns, 0.0), *self.vectors]

    @property
    def saved(self) -> list[int]:
        """Places of the λ whose data set is to be saved."""
        count = len(self.vectors)
        chosen = [part for item in self.save for part in item.split(",")]
        if chosen == ["all"]:
            return list(range(count))
        if any(not part.isdigit() or not 1 <= int(part) <= count for part in chosen):
            raise ConfigError(f"--save {','.join(chosen)}: name λ by number, 1 to {count}, or all")
        return [int(part) - 1 for part in chosen]

    @model_validator(mode="before")
    @classmethod
    def _values_of_lam(cls, given: dict[str, Any]) -> dict[str, Any]:
        from exptilt.config import lambda_grid

        specs = given.get("lam", cls.model_fields["lam"].default)
        items = specs if isinstance(specs, (list, tuple)) else [specs]
        return lams.with_values(given, lambda_grid.names([lams.text(item) for item in items]))

    @model_validator(mode="after")
    def _known_vectors(self) -> Self:
        _ = self.saved
        return self


class Palette(_Explored, _Targets):
    """Find the λ of least KL that brings the target levels, or say that no tilt can."""

    value: Names = Field(default=(), description="the values, where the targets' names do not say it all")

    @property
    def targets(self) -> "list[Target]":
        """The targets, one per value that has one, by the value's column."""
        columns = lams.columns_of(self.values)
        return [replace(each, value=columns.get(each.value, each.value)) for each in self._written]

    @property
    def _written(self) -> "list[Target]":
        from exptilt.config.targets import parse

        return [parse(part) for item in self.target for part in item.split(",")]

    @property
    def values(self) -> list[str]:
        """The values asked for, or those that have a target."""
        return super().values if self.value else [target.value for target in self._written]

    @model_validator(mode="after")
    def _known_targets(self) -> Self:
        names = [target.value for target in self.targets]
        unknown = [name for name in names if name not in self.columns]
        if unknown or len(set(names)) < len(names):
            raise ConfigError(
                f"--target {','.join(self.target)}: one target per value of {','.join(self.columns)}"
            )
        return self
