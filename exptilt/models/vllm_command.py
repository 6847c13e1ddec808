"""The command of vLLM: its program, its version, and the arguments that the user adds to those of exptilt."""

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exptilt.errors import ConfigError, ModelError

VLLM: Final = "vllm"
FLAG: Final = "--vllm-command"
SET_BY_THE_RUN: Final = frozenset(
    (
        "model served-model-name tokenizer revision tokenizer-revision dtype chat-template generation-config "
        "override-generation-config max-logprobs logprobs-mode config host port uds api-key"
    ).split()
)
SECRET: Final = "hf-token"
NEUTRAL: Final = frozenset(  # memory, speed and logs: the law of the draws is the same
    (
        "gpu-memory-utilization kv-cache-memory-bytes max-model-len max-num-seqs max-num-batched-tokens "
        "cpu-offload-gb swap-space block-size enforce-eager enable-prefix-caching no-enable-prefix-caching "
        "enable-chunked-prefill no-enable-chunked-prefill tensor-parallel-size tp pipeline-parallel-size pp "
        "disable-log-stats uvicorn-log-level"
    ).split()
)
ASK: Final = "from importlib.metadata import version; print(version('vllm'))"
SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmCommand:
    """A vLLM that a run starts.

    Attributes:
        program: its path.
        version: as it says itself.
        arguments: of `serve`, each with its values, beside those that the run sets.
    """

    program: str
    version: str
    arguments: tuple[tuple[str, ...], ...] = ()

    @property
    def identity(self) -> dict[str, Any]:
        """What of it may change the draws: a part of every sample's content key."""
        changing = sorted(" ".join(words) for words in self.arguments if name_of(words[0]) not in NEUTRAL)
        return {
            "engine": f"vllm {self.version}",
            **({"vllm_arguments": changing} if changing else {}),
        }

    def has(self, *names: str) -> bool:
        """Whether the user gives one of these arguments."""
        return any(name_of(words[0]) in names for words in self.arguments)


def name_of(word: str) -> str:
    """An argument without dashes and value, as --max_model_len=512 is max-model-len."""
    return word.lstrip("-").partition("=")[0].replace("_", "-")


def parse(command: str) -> tuple[str, tuple[tuple[str, ...], ...]]:
    """The program of a --vllm-command and the arguments behind it, each with its values.

    Raises ConfigError where it is not written as PATH --argument value …, or sets what the run sets.
    """
    try:
        program, *words = shlex.split(command) or [VLLM]
    except ValueError as error:
        raise ConfigError(f"{FLAG} {command!r}: {error}".lower()) from None
    arguments: list[tuple[str, ...]] = []
    for word in words:
        if re.match(r"-+[A-Za-z]", word):
            arguments.append((word,))
        elif arguments:
            arguments[-1] += (word,)
        else:
            raise ConfigError(f"{FLAG}: {word!r} is no argument; write PATH --argument value ...")
    for first, *_ in arguments:
        _check(name_of(first))
    return program, tuple(arguments)


def _check(name: str) -> None:
    if name == SECRET:
        raise ConfigError(f"{FLAG}: a token comes from HF_TOKEN in the environment, not from --{SECRET}")
    if name in SET_BY_THE_RUN:
        raise ConfigError(f"{FLAG}: the run sets --{name} itself; leave it out")


def find(command: str) -> VllmCommand:
    """The vLLM that a --vllm-command means, that of this environment or the path's where it names none.

    Raises ConfigError where there is no such program, ModelError where it says no version.
    """
    name, arguments = parse(command)
    here, written = str(Path(sys.executable).parent), str(Path(name).expanduser())
    program = shutil.which(written, path=here) or shutil.which(written)
    if program is None:
        what = f"{FLAG} {name}: there is no such program" if command else "--engine vllm: vLLM is not here"
        raise ConfigError(f"{what}; pip install vllm, or name that of another environment by {FLAG} PATH")
    path = str(Path(program).absolute())
    return VllmCommand(program=path, version=_version(path), arguments=arguments)


def _version(program: str) -> str:
    """The version that the Python beside the program reports, which is fast, or else the program."""
    beside = Path(program).with_name("python")
    said = _said(str(beside), "-c", ASK) if beside.exists() else ""
    said = said or _said(program, "--version")
    if not said:
        raise ModelError(f"{FLAG} {program}: it does not say its version when run with --version")
    return said


def _said(*command: str) -> str:
    """The version in the last line that a command prints, "" where it fails or prints none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"\d+\.\d+\S*$", done.stdout.strip())
    return found[0] if found else ""
