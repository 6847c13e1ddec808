"""The settings of runs that draw, each flag declared once for the command line, the checks and the UI.

What the checks need is imported in them, so that --help does not wait for polars.
"""

import math
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from exptilt.config import lam as lams
from exptilt.config.checks import check_values, plain
from exptilt.config.drawing import Drawing
from exptilt.config.field_types import Names, Positive, listed, split
from exptilt.config.publishing import Publishing
from exptilt.config.tilt import NOT_REFINED, REFINED_COLUMNS, Tilt
from exptilt.errors import ConfigError


class Original(Drawing, Publishing):
    """Draw completions y ~ p0(.|x)."""

    nsamples: Positive = Field(default=1, description="completions per prompt")


class _Values(BaseModel):
    value: Names = Field(
        default=(),
        description="values to tilt: one, a comma list, or repeated; FILE.py:function; or all "
        f"(default: those that --lam names, or {lams.DEFAULT_VALUE})",
    )
    nsamples: Positive = Field(default=32, description="samples drawn from p0 per prompt (n)")


class Valued(Drawing, _Values):
    """Draw n completions per prompt and score them."""

    @property
    def values(self) -> list[str]:
        """The values asked for, `all` spelled out."""
        from exptilt import rewards

        return rewards.expand(self.value, self.basemodel, self.data)

    @property
    def columns(self) -> list[str]:
        """The columns that the values fill."""
        from exptilt import rewards

        return [rewards.column_of(value) for value in self.values]


class MCAligned(Valued, Tilt, Publishing):
    """Draw n completions per prompt, score them, and keep those of p0(y|x) exp(Σ λ r(x, y))."""

    @property
    def tilt(self) -> dict[str, float]:
        """λ by the column of its value, in the values' order."""
        return dict(zip(self.columns, self.lam, strict=True))

    @model_validator(mode="before")
    @classmethod
    def _lam_in_the_values_order(cls, given: dict[str, Any]) -> dict[str, Any]:
        named = lams.named(",".join(split(listed(given.get("lam", ())))))
        settings = lams.with_values({**given, "value": split(given.get("value", ()))}, list(named))
        if not named:
            return settings
        from exptilt import rewards

        base, data = (given.get(name, cls.model_fields[name].default) for name in ("basemodel", "data"))
        return {**settings, "lam": lams.in_order(named, rewards.expand(settings["value"], base, data))}

    @model_validator(mode="after")
    def _one_lam_per_value(self) -> Self:
        if not all(math.isfinite(lam) for lam in self.lam):
            raise ConfigError(f"--lam must be finite numbers, not {plain(self.lam)}")
        if self.min_ess and self.max_nsamples <= self.nsamples:
            raise ConfigError(
                f"--max-nsamples {self.max_nsamples} leaves nothing to add to --nsamples {self.nsamples}"
            )
        self._check_refine()
        self._check_steer()
        values = self.values
        check_values(values)
        if len(values) != len(self.lam):
            raise ConfigError(
                f"as many λ as values are needed: --lam has {len(self.lam)} ({plain(self.lam)}), "
                f"--value has {len(values)} ({plain(values)})"
            )
        return self

    def _check_refine(self) -> None:
        if self.refine and self.resampler in NOT_REFINED:
            raise ConfigError(
                f"--refine moves draws of the tilt, and --resampler {self.resampler} gives none: "
                "use multinomial, or leave --refine out"
            )
        if self.refine and self.min_ess:
            raise ConfigError("--refine and --min-ess both spend more where n samples do not reach: use one")
        taken = next((column for column in self.columns if self.refine and column in REFINED_COLUMNS), None)
        if taken:
            raise ConfigError(f"--value: the table of refined completions has a column {taken!r} already")

    def _check_steer(self) -> None:
        if self.steer and not self.refine:
            raise ConfigError("--steer gives the moves of --refine another beginning: add --refine K")
        if self.steer and self.block_tokens >= self.max_new_tokens:
            raise ConfigError(
                f"--steer: no block of --block-tokens {self.block_tokens} ends before --max-new-tokens "
                f"{self.max_new_tokens}"
            )


Config = Original | Valued
