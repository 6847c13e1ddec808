"""A model's revision is that of the files it is loaded from; what cannot be applied is refused by name."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import causal, classifier
from completions import http_server
from transformers import AutoModelForCausalLM

from exptilt import rewards
from exptilt.engines import registry
from exptilt.errors import ModelError
from exptilt.models import files, reference

TODAY = {
    "config.json": "{}",
    "merges.txt": "a b",
    "model-00001-of-00002.safetensors": "weights",
    "pytorch_model.bin": "pickled",
    "spiece.model": "pieces",
    "chat_template.jinja": "{{ prompt }}",
    "training_args.bin": "arguments",
}
READ = ["model.gguf", "tf_model.h5", "flax_model.msgpack", "weights.pt", "consolidated.pth", "qwen.tiktoken"]
READ += [
    "source.spm",
    "bpe.codes",
    "a.vocab",
    "tokenizer",
    "additional_chat_templates/rag.jinja",
    "parts/model.bin",
]
NOT_READ = ["README.md", "LICENSE", ".gitattributes", "optimizer.pt", "rng_state_0.pth", "modeling_own.py"]
NOT_READ += [
    "checkpoint-500/model.safetensors",
    "runs/a/events.out.tfevents.1",
    "onnx/model.bin",
    "notes/today.txt",
    ".git/config",
    "a/__pycache__/b",
]


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, text in TODAY.items():
        put(tmp_path / "model", name, text)
    return tmp_path / "model"


def put(folder: Path, name: str, text: str = "text") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_a_folder_keeps_the_revision_that_it_had(folder):
    """Pools have it in their keys."""
    assert files.digest(folder) == "blake2b:1f699c324ee153412bfe1c592d184859"


@pytest.mark.parametrize("name", READ)
def test_every_file_that_may_be_read_counts(folder, name):
    before = files.digest(folder)
    put(folder, name, "one")
    one = files.digest(folder)
    put(folder, name, "two")
    assert len({before, one, files.digest(folder)}) == 3


@pytest.mark.parametrize("name", NOT_READ)
def test_what_no_loader_reads_does_not_count(folder, name):
    before = files.digest(folder)
    put(folder, name)
    assert files.digest(folder) == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("config.json", {"transformers_weights": "parts/a.safetensors"}),
        ("config.json", {"transformers_weights": "parts/own.safetensors.index.json"}),
        ("model.safetensors.index.json", {"weight_map": {"a": "parts/a.safetensors", "b": "c.safetensors"}}),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["parts/a.safetensors"]}),
    ],
)
def test_a_file_in_a_subfolder_counts_where_one_names_it(folder, name, said):
    put(folder, name, json.dumps(said))
    put(folder, "parts/own.safetensors.index.json", '{"weight_map": {"a": "parts/a.safetensors"}}')
    found = set()
    for text in ("one", "two"):
        put(folder, "parts/a.safetensors", text)
        found.add(files.digest(folder))
    assert len(found) == 2


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '["\\ud800", "", "a\\u0000b", "/etc/passwd"]', "3"])
def test_odd_configurations_name_nothing(folder, text):
    put(folder, "generation_config.json", text)
    put(folder, "model.safetensors.index.json", text)
    assert files.digest(folder).startswith("blake2b:")


def test_links_count_by_what_they_lead_to(folder, tmp_path):
    """As in a Hub's cache, where every file of a snapshot is a link."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name in TODAY:
        (snapshot / name).symlink_to(folder / name)
    (snapshot / "gone.bin").symlink_to(folder / "nowhere")
    assert files.digest(snapshot) == files.digest(folder)


def test_a_model_that_was_trained_on_in_this_process_is_another(tmp_path):
    folder = causal(tmp_path / "model", "gpt2")
    first = reference.checkpoint(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.transformer.wte.weight.data.mul_(2)
    model.save_pretrained(folder)
    assert reference.checkpoint(folder).revision != first.revision


ADAPTERS = [
    ({"adapter_config.json": "{broken"}, "its adapter_config.json can't be read"),
    ({"adapter_config.json": ""}, "its adapter_config.json can't be read"),
    (
        {"adapter_model.safetensors": "weights"},
        "is no adapter, or not a whole one: there is no adapter_config.json",
    ),
    ({"adapter_model.bin": "weights", "adapter_config.json": "{}"}, "does not say the adapter's type"),
    ({"adapter_config.json": '{"peft_type": "LORA"}'}, "is an adapter without its weights"),
]


@pytest.mark.parametrize(("files", "words"), ADAPTERS)
@pytest.mark.parametrize("with_weights", [True, False])
def test_half_an_adapter_is_refused_by_name_and_not_ignored(tmp_path, files, words, with_weights):
    folder = classifier(tmp_path / "model") if with_weights else str(tmp_path / "model")
    for name, text in files.items():
        put(Path(folder), name, text)
    with pytest.raises(ModelError, match=f"^base model '{folder}'.* {words}"):
        reference.checkpoint(folder)
    toy = registry.base_model("toy")
    with pytest.raises(ModelError, match=f"^value 'tone': model '{folder}'.* {words}"):
        rewards.resolve(f"tone={folder}", rewards.Beside(base=toy, dtype="float32", base_dtype="float32"))


ASK = """
import sys
from exptilt import rewards
from exptilt.engines import registry
from exptilt.models import reference
from exptilt.errors import ModelError
beside = rewards.Beside(base=registry.base_model("toy"), dtype="float32", base_dtype="float32")
for ask in (
    lambda: reference.checkpoint("org/tuned"),
    lambda: rewards.resolve("tone=org/tuned", beside),
    lambda: rewards.resolve("coherence", beside),
):
    try:
        print(ask().revision)
    except ModelError as error:
        print(error)
"""


def asked(**env: str) -> list[str]:
    """What a process of its own says of models on the Hub."""
    done = subprocess.run(
        [sys.executable, "-c", ASK], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@contextlib.contextmanager
def hub(names: tuple[str, ...], home: Path) -> Iterator[dict[str, str]]:
    """A Hub that lists the files `names` of every model, and gives none of them."""
    files = [{"rfilename": name} for name in names]
    with http_server(
        lambda path, body: (200, {"id": "org/tuned", "sha": "a" * 40, "siblings": files})
    ) as root:
        yield {"HF_ENDPOINT": root.removesuffix("/v1"), "HF_HUB_OFFLINE": "0", "HF_HOME": str(home)}


def test_what_the_hub_lists_is_taken_for_an_adapter_or_refused(tmp_path):
    with hub(("README.md", "adapter_config.json", "config.json"), tmp_path) as env:
        assert ["is an adapter that was not fetched" in line for line in asked(**env)] == [True] * 3
    with hub(("README.md", "model-Q4.gguf", "config.json"), tmp_path) as env:
        assert ["is a model in GGUF format (model-Q4.gguf)" in line for line in asked(**env)] == [True] * 3


@pytest.mark.parametrize("files", [("adapter_config.json",), ("adapter_config.json", "config.json")])
def test_an_adapter_in_the_hubs_cache_is_read_without_a_network(tmp_path, files):
    for repository in ("org--tuned", "princeton-nlp--sup-simcse-bert-base-uncased"):
        kept = tmp_path / "hub" / f"models--{repository}"
        put(kept, "refs/main", "a" * 40)
        for name in files:
            put(kept / "snapshots" / ("a" * 40), name, "{}")
    lines = asked(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert ["its adapter_config.json does not say the adapter's type" in line for line in lines] == [True] * 3


def test_an_adapter_from_the_hub_has_the_base_and_the_revision_that_it_names(tmp_path):
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "org/base",
        "revision": "v1",
    }
    adapter, base = (tmp_path / "hub" / f"models--org--{name}" for name in ("tuned", "base"))
    put(adapter, "refs/main", "a" * 40)
    put(adapter / "snapshots" / ("a" * 40), "adapter_config.json", json.dumps(config))
    put(adapter / "snapshots" / ("a" * 40), "adapter_model.safetensors")
    for ref, commit in (("main", "b" * 40), ("v1", "c" * 40)):
        put(base, f"refs/{ref}", commit)
        put(base / "snapshots" / commit, "config.json", "{}")
    first, second, _ = asked(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert first == "c" * 40
    assert "is an adapter for CAUSAL_LM, and one for SEQ_CLS is needed here" in second
