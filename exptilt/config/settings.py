"""A run's configuration: each flag declared once, for the command line, the checks and the UI.

What the checks need is imported in them, so that --help does not wait for polars.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from exptilt.config import lam as lams
from exptilt.config.field_types import (
    EXPORTS,
    IN_CHAT,
    S3_HOST,
    Dtype,
    Endpoint,
    Names,
    Numbers,
    Options,
    Place,
    Places,
    Positive,
    PositiveOrAuto,
    ResamplerName,
    Texts,
    listed,
    option,
    split,
)
from exptilt.errors import ConfigError
from exptilt.models.vllm_command import VLLM, parse


def check_device(device: str) -> str:
    """`device`, if it is written as one or as several different ones; ConfigError otherwise."""
    names = device.split(",")
    known = device == "auto" or all(re.fullmatch(r"(cpu|cuda)(:\d+)?", name) for name in names)
    if not known or len(set(names)) != len(names):
        raise ConfigError(f"unknown device {device!r}: use auto, cpu, cuda, or cuda:0,cuda:1")
    return device


def check_values(values: Sequence[str]) -> None:
    """Raise ConfigError unless every value names a reward, and each its own column."""
    from exptilt import rewards

    for value in values:
        rewards.check_name(value)
    names = [rewards.column_of(value) for value in values]
    if len(set(names)) != len(names):
        raise ConfigError(f"a value is named twice: --value {_plain(names)}")


class _Valued(BaseModel):
    value: Names = Field(
        default=(),
        description="values to tilt: one, a comma list, or repeated; FILE.py:function; or all "
        f"(default: those that --lam names, or {lams.DEFAULT_VALUE})",
    )
    nsamples: Positive = Field(default=32, description="samples drawn from p0 per prompt (n)")


class _Tilt(BaseModel):
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


class _Base(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    basemodel: str = Field(
        default="demo",
        description="demo, gpt2, opt1.3b, llama2_chat, toy, a Hub id, a local folder, "
        "or a server as http://HOST:PORT/v1#MODEL",
    )
    data: Places = Field(
        default="demo",
        description="demo, Anthropic-harmless, Imdb, a .json/.jsonl/.csv/.txt file (also .gz, .zst) or "
        ".parquet, several (a comma list, or repeated), a pattern or a folder, or a Hub data set as "
        "org/name or org/name:split",
    )
    prompt_column: str = Field(default="prompt", description="the column that holds the prompts")
    chat: bool = Field(
        default=False,
        description="put each prompt as a user's turn, by the chat template; conversations always are",
    )
    engine: Literal["auto", "vllm"] = Field(
        default="auto",
        description="what draws: auto is exptilt itself, or what the base model's name means; vllm is vLLM, "
        "a server of which the run starts on every device and ends",
    )
    vllm_command: str = Field(
        default="",
        description="the vllm of another environment, and arguments of its serve, "
        'as "/opt/vllm/bin/vllm --max-model-len 4096" (default: vllm)',
    )
    system: str = Field(default="", description="a system turn for every prompt")
    chat_template: Place = Field(
        default="", description="a file with the chat template to use in place of the model's own"
    )
    template_options: Options = Field(
        default=(), description="what the template is given, as enable_thinking=false (a comma list)"
    )
    reasoning: Literal["refuse", "keep", "drop"] = Field(
        default="refuse",
        description="what a server sets apart from the answer: stop the run, keep it in a column, or drop it",
    )
    start: int = Field(default=0, ge=0, description="first prompt of the range")
    end: int | None = Field(default=None, ge=1, description="end of the range, exclusive")
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="temperature")
    top_k: int = Field(default=50, ge=0, description="keep the k likeliest tokens; 0 keeps all")
    top_p: float = Field(default=1.0, gt=0, le=1, description="keep the likeliest tokens up to p")
    max_new_tokens: Positive = Field(default=50, description="longest completion, in tokens")
    stop: Texts = Field(
        default=(), description="a completion ends before this text (repeat the flag for several)"
    )
    seed: int = Field(default=0, description="the run's seed: same seed, same rows")
    shard_size: PositiveOrAuto = Field(
        default="auto", description="prompts per shard, in whole blocks of 32; auto makes 100 shards at most"
    )
    batch_size: PositiveOrAuto = Field(default="auto", description="sequences decoded at once on a device")
    device: str = Field(
        default="auto", description="auto (every GPU, or the CPU), cpu, cuda, or several as cuda:0,cuda:1"
    )
    dtype: Dtype = Field(
        default="auto",
        description="the weights' type; auto is bfloat16 where that is faster, else float32",
    )
    save_directory: Place = Field(
        default="results", min_length=1, description="where all goes: a folder or s3://bucket/path"
    )
    endpoint_url: Endpoint = Field(default="", description=S3_HOST)
    on_long_prompt: Literal["error", "skip", "truncate"] = Field(
        default="error",
        description="a prompt beyond the model's context: stop, skip it, or cut it; "
        "skip leaves out what is no prompt, too (empty, not text)",
    )
    allow_missing: bool = Field(
        default=False, description="leave out and record prompts that the model or a value fails at"
    )

    @property
    def options(self) -> tuple[tuple[str, Any], ...]:
        """The names and values of the template's options."""
        return tuple(sorted(option(item) for item in self.template_options))

    @field_validator("data")
    @classmethod
    def _known_data(cls, data: str) -> str:
        from exptilt.data import prompts

        prompts.check_name(data)
        return data

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        return check_device(device)

    @model_validator(mode="after")
    def _vllm_is_asked_for(self) -> Self:
        if self.vllm_command and self.engine != VLLM:
            raise ConfigError("--vllm-command says which vLLM --engine vllm starts: give that, too")
        parse(self.vllm_command)
        return self

    @model_validator(mode="after")
    def _range_holds_something(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ConfigError(f"the range --start {self.start} --end {self.end} is empty")
        return self


class Original(_Base):
    """Draw completions y ~ p0(.|x)."""

    nsamples: Positive = Field(default=1, description="completions per prompt")


class Valued(_Base, _Valued):
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


class MCAligned(Valued, _Tilt):
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
            raise ConfigError(f"--lam must be finite numbers, not {_plain(self.lam)}")
        if self.min_ess and self.max_nsamples <= self.nsamples:
            raise ConfigError(
                f"--max-nsamples {self.max_nsamples} leaves nothing to add to --nsamples {self.nsamples}"
            )
        values = self.values
        check_values(values)
        if len(values) != len(self.lam):
            raise ConfigError(
                f"as many λ as values are needed: --lam has {len(self.lam)} ({_plain(self.lam)}), "
                f"--value has {len(values)} ({_plain(values)})"
            )
        return self


class Scoring(BaseModel):
    """Add values to a file of texts: completions of prompts, messages, or pairs, chosen and rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Place = Field(description="a .json, .jsonl or .parquet file of records")
    value: Names = Field(default=("humor",), description="values to add, as in mc_aligned.py")
    basemodel: str = Field(
        default="demo", description="the base model: for perplexity, and demo for the demo's values"
    )
    output: Place = Field(default="", description="the file to write; if none, the input itself, once whole")
    prompt_column: str = Field(default="prompt", description="the key that holds the prompt")
    generated_column: str = Field(default="generated", description="the key that holds prompt + completion")
    shard_size: PositiveOrAuto = Field(
        default="auto", description="prompts per shard, in whole blocks of 32; auto makes 100 shards at most"
    )
    device: str = Field(
        default="auto", description="auto (every GPU, or the CPU), cpu, cuda, or several as cuda:0,cuda:1"
    )
    dtype: Dtype = Field(default="auto", description="the type that models compute in")
    save_directory: Place = Field(
        default="results", min_length=1, description="where the pool of rewards lies"
    )
    endpoint_url: Endpoint = Field(default="", description=S3_HOST)

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        return check_device(device)

    @model_validator(mode="after")
    def _known_values(self) -> Self:
        check_values(self.values)
        return self

    @property
    def values(self) -> list[str]:
        """The values asked for, `all` spelled out."""
        from exptilt import rewards

        return rewards.expand(self.value, self.basemodel, "")


Config = Original | Valued
C = TypeVar("C", bound=BaseModel)


def _plain(items: Sequence[Any]) -> str:
    return ",".join(str(item) for item in items)


def build(model: type[C], settings: dict[str, Any]) -> C:
    """The checked configuration, or a ConfigError of one line that names the flag."""
    try:
        return model(**settings)
    except ValidationError as error:
        raise ConfigError(explain(error)) from None


def explain(error: ValidationError) -> str:
    """The first complaint of a ValidationError, as one line that names the flag."""
    first = error.errors()[0]
    own = first.get("ctx", {}).get("error")
    if isinstance(own, ConfigError):
        return str(own)
    name = str(first["loc"][0]) if first["loc"] else "configuration"
    given = "" if first["type"] == "missing" else f", got {first['input']!r}"
    return f"--{name.replace('_', '-')}: {first['msg'].lower()}{given}"
