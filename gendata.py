"""The research API: text from a base model, or from its exponential tilt, as JSON records.

python gendata.py generate_from_original_model
python gendata.py --basemodel_name=gpt2 --data_name=Imdb generate_from_original_model
python gendata.py generate_from_MC_aligned_model --lam_list=-0.5 --value_list="humor" --MC_nsamples=50
"""

import ast
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import exptilt
from exptilt.errors import ExptiltError, ShardsFailed

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from exptilt import Result


class TextGeneration:
    """Generate text for the prompts of a data set.

    The steps, the seeds and so the rows are those of the flows; finished shards are reused.

    Args:
        basemodel_name: demo, gpt2, opt1.3b, llama2_chat, a Hub id or a local folder.
        data_name: demo, Anthropic-harmless, Imdb, files, a folder or a Hub data set; ValueError otherwise.
        save_directory: a local folder or s3://bucket/prefix.
        engine: vllm has a server of vLLM draw, which the run starts and ends.
        vllm_command: the vllm of another environment, and arguments of its serve.
        refine: moves of each completion that is kept of a tilt, beyond what MC_nsamples samples reach.
        steer: whether the moves begin at steered draws.
        block_tokens: tokens of a block of these.
    """

    def __init__(
        self,
        basemodel_name: str = "demo",
        data_name: str | Sequence[str] = "demo",
        save_directory: str = "results",
        engine: Literal["auto", "vllm"] = "auto",
        vllm_command: str = "",
        refine: int = 0,
        steer: bool = False,
        block_tokens: int = 16,
    ) -> None:
        from exptilt.data.prompts import check_name, short_name
        from exptilt.models.devices import resolve
        from exptilt.models.reference import file_name, full_name

        data_name = data_name if isinstance(data_name, str) else ",".join(data_name)
        check_name(data_name)
        self.device = resolve("auto")[0].partition(":")[0]
        self.basemodel_name = basemodel_name
        self.data_name = data_name
        self.save_directory = save_directory
        self.engine, self.vllm_command = engine, vllm_command
        self.refine, self.steer, self.block_tokens = refine, steer, block_tokens
        self.basemodel_filename = file_name(full_name(basemodel_name))
        stem = f"{self.basemodel_filename}-{short_name(data_name)}"
        self.file_path = f"{save_directory}/{stem}.json"
        self.top_k = 50
        self.max_new_tokens = 50
        self.seed = 0

    @property
    def generation_config(self) -> "GenerationConfig":
        """How a completion is drawn, in transformers' terms."""
        from transformers import GenerationConfig

        return GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=True,
            num_beams=1,
            temperature=1.0,
            top_k=self.top_k,
            max_new_tokens=self.max_new_tokens,
        )

    def generate_from_original_model(self, batch_size: int = 32) -> "Result":
        """Draw one completion per prompt and write `file_path`: prompt, generated, perplexity."""
        return _shown(exptilt.original(**self._settings, batch_size=batch_size))

    def generate_from_MC_aligned_model(  # noqa: N802 - the research code's name
        self,
        lam_list: float | str | Sequence[float] | Mapping[str, float],
        value_list: str | Sequence[str] = (),
        MC_nsamples: int = 32,
        start_index: int = 0,
        end_index: int | None = None,
    ) -> "Result":
        """Keep one of MC_nsamples completions per prompt, by weights exp(Σ λ r), and write records.

        Args:
            lam_list: λ: {"humor": -0.5}, "humor=-0.5", or a number or one per value of value_list.
            value_list: values: a name, a comma list, a list, or "all"; if none, those of lam_list, or humor.
            MC_nsamples: completions drawn per prompt.
            start_index: first prompt.
            end_index: end of the prompts, exclusive; None or 0 for all.
        """
        tilt = {"lam": lam_list, "value": value_list, "nsamples": MC_nsamples}
        beyond = {"refine": self.refine, "steer": self.steer, "block_tokens": self.block_tokens}
        part = {"start": start_index, "end": end_index or None}
        return _shown(exptilt.mc_aligned(**self._settings, **tilt, **beyond, **part))

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "basemodel": self.basemodel_name,
            "data": self.data_name,
            "save_directory": self.save_directory,
            "device": self.device,
            "engine": self.engine,
            "vllm_command": self.vllm_command,
            "top_k": self.top_k,
            "max_new_tokens": self.max_new_tokens,
            "seed": self.seed,
        }


def _shown(result: "Result") -> "Result":
    """`result`, its summary printed."""
    from exptilt.reports.terminal import console, show

    show(result.summary, console())
    return result


def _unprinted(result: Any) -> Any:
    """What Fire is to print of `result`: nothing of a run's, which is printed already."""
    return None if isinstance(result, exptilt.Result) else result


def _parsed(text: str) -> Any:
    """What a flag's text means: a literal, or itself. To Fire a # begins a comment, and here a label."""
    from fire.parser import DefaultParseValue

    if "#" not in text:
        return DefaultParseValue(text)
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def main() -> None:
    """The command line: python gendata.py [--basemodel_name=…] METHOD [--flags]."""
    import fire

    from exptilt.config.command_line import fail, fail_run
    from exptilt.process_setup import set_up

    set_up()
    for part in (
        TextGeneration,
        TextGeneration.generate_from_original_model,
        TextGeneration.generate_from_MC_aligned_model,
    ):
        fire.decorators.SetParseFn(_parsed)(part)
    try:
        fire.Fire(TextGeneration, serialize=_unprinted)
    except ShardsFailed as error:
        fail_run(error)
    except ExptiltError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("stopped; finished shards are saved, run the same command to go on", 130)


if __name__ == "__main__":
    main()
    sys.exit(0)
