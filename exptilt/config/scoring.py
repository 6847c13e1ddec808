"""The settings of scoring a file of texts."""

from typing import Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from exptilt.config.checks import check_device, check_values
from exptilt.config.field_types import S3_HOST, Dtype, Endpoint, Names, Place, Places, PositiveOrAuto
from exptilt.config.running import Running


class Scoring(Running):
    """Add values to a file of texts: completions of prompts, messages, or pairs, chosen and rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Places = Field(
        description="a .json, .jsonl, .csv (also .gz, .zst) or .parquet file of records, several (a comma "
        "list, or repeated), a pattern or a folder"
    )
    value: Names = Field(default=("humor",), description="values to add, as in mc_aligned.py")
    basemodel: str = Field(
        default="demo", description="the base model: for perplexity, and demo for the demo's values"
    )
    output: Place = Field(
        default="", description="the file to write, of all records; if none, the input itself, once whole"
    )
    prompt_column: str = Field(default="prompt", description="the key that holds the prompt")
    generated_column: str = Field(default="generated", description="the key that holds prompt + completion")
    on_long_prompt: Literal["error", "skip"] = Field(
        default="error",
        description="a record that holds no texts to score (null, no text, no pair): stop, or leave it out, "
        "its values null",
    )
    shard_size: PositiveOrAuto = Field(
        default="auto",
        description="prompts per shard, in whole blocks of 32 (256 from prompt 8192 on); auto: 2048 at most",
    )
    batch_size: PositiveOrAuto = Field(
        default="auto", description="requests in flight at once to a server that scores"
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
