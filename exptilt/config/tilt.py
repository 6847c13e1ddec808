"""The settings of a tilt: λ, how completions are kept, and tables for training."""

from typing import Final

from pydantic import BaseModel, Field, field_validator

from exptilt.config.field_types import EXPORTS, IN_CHAT, Names, Numbers, Positive, ResamplerName
from exptilt.errors import ConfigError

REFINED_COLUMNS: Final = ("tokens", "moves", "accepted")  # beside one for each value
NOT_REFINED: Final = ("gumbel-top-k", "best-of-n")  # resamplers whose picks are no draws of p_λ as n grows


class Tilt(BaseModel):
    """What a run that tilts has beside its values."""

    lam: Numbers = Field(
        default=(-0.5,),
        description="tilt λ, one number per value: humor=-0.5,positive=2, or -0.5,2 in the order of --value",
    )
    ndraws: Positive = Field(default=1, description="completions kept per prompt, of the n")
    min_ess: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="draw more, round by round, where a prompt's ESS is smaller; 0 never does",
    )
    max_nsamples: Positive = Field(default=256, description="the most samples of a prompt with --min-ess")
    resampler: ResamplerName = Field(
        default="multinomial",
        description="how they are kept: independently by weight, with less noise, without replacement, ...",
    )
    refine: int = Field(
        default=0,
        ge=0,
        description="moves of each completion kept, beyond what n samples reach: its tail is drawn anew and "
        "taken by exp(Σ λ r) of the whole; 0 for none",
    )
    steer: bool = Field(
        default=False,
        description="let the moves begin at steered draws: samples resampled block by block, by what the "
        "rewards of their first tokens promise; for values that can judge a beginning",
    )
    block_tokens: Positive = Field(default=16, description="tokens of a block of --steer")
    export: Names = Field(
        default=(),
        description="more tables for training: weighted, pairs, sft (a comma list), or all; pairs-chat and "
        "sft-chat are the messages alone",
    )
    min_margin: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="pairs: the least difference of Σ λ r"
    )

    @field_validator("export")
    @classmethod
    def _known_exports(cls, export: tuple[str, ...]) -> tuple[str, ...]:
        chosen = EXPORTS if export == ("all",) else export
        unknown = [name for name in chosen if name not in (*EXPORTS, *IN_CHAT)]
        if unknown:
            raise ConfigError(f"--export {unknown[0]}: known are {', '.join((*EXPORTS, *IN_CHAT))}, or all")
        return chosen
