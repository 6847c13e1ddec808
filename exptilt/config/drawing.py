"""The settings of drawing y ~ p0(y|x): base model, prompts, how a token is drawn, and where the work runs."""

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from exptilt.config.checks import check_device
from exptilt.config.field_types import (
    S3_HOST,
    Dtype,
    Endpoint,
    Options,
    Place,
    Places,
    Positive,
    PositiveOrAuto,
    Texts,
    option,
)
from exptilt.config.running import Running
from exptilt.errors import ConfigError
from exptilt.models.vllm_command import VLLM, parse


class Drawing(Running):
    """What every run that draws has."""

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
        default="auto",
        description="prompts per shard, in whole blocks of 32 (256 from prompt 8192 on); auto: 2048 at most",
    )
    batch_size: PositiveOrAuto = Field(
        default="auto",
        description="sequences decoded at once on a device; requests in flight to a server, a value's too",
    )
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
    page_prompts: int = Field(
        default=25, ge=0, description="prompts with their samples on the page, by lot and furthest from sound"
    )
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
        if self.engine == VLLM and self.runner == "ray":
            raise ConfigError(
                "--engine vllm starts servers on this machine, not on a cluster: leave --runner ray out, "
                "or start vLLM there and name it as --basemodel http://HOST:PORT/v1#MODEL"
            )
        parse(self.vllm_command)
        return self

    @model_validator(mode="after")
    def _range_holds_something(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ConfigError(f"the range --start {self.start} --end {self.end} is empty")
        return self
