"""Adapters as base models: p0 is the merged model, number for number, and what does not merge is refused."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import adapt, adapted, change, save
from checkpoints import causal, letters_tokenizer
from peft import (
    AdaLoraConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoraConfig,
    OFTConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    TrainableTokensConfig,
    VeraConfig,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from exptilt.config.settings import Original
from exptilt.engines.base import P0
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.errors import ModelError
from exptilt.local_run import run
from exptilt.models import reference
from exptilt.models.likelihood import text_nll
from exptilt.models.loading import causal_model, load_tokenizer
from exptilt.planning.plan import prepare
from exptilt.storage import keys

PROMPTS = ["ab", "fade", "c"]
ATTENTION = ["q_proj", "v_proj"]
LORA = {"task_type": "CAUSAL_LM", "r": 4, "target_modules": ATTENTION}
KINDS = {
    "lora": LoraConfig(**LORA),
    "all linear": LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"),
    "no task": LoraConfig(r=4, target_modules=ATTENTION),
    "dora": LoraConfig(**LORA, use_dora=True),
    "rslora": LoraConfig(**LORA, use_rslora=True),
    "patterns": LoraConfig(**LORA, alpha_pattern={"v_proj": 32}, rank_pattern={"q_proj": 2}),
    "pissa": LoraConfig(**LORA, init_lora_weights="pissa"),
    "head too": LoraConfig(**LORA, modules_to_save=["lm_head"]),
    "embeddings": LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["embed_tokens", "q_proj"]),
    "whole embeddings": LoraConfig(**LORA, modules_to_save=["embed_tokens", "lm_head"]),
    "parameters": LoraConfig(task_type="CAUSAL_LM", r=4, target_parameters=["mlp.gate_proj.weight"]),
    "tokens": LoraConfig(**LORA, trainable_token_indices=[2, 3]),
    "only tokens": TrainableTokensConfig(task_type="CAUSAL_LM", token_indices=[1, 2]),
    "adalora": AdaLoraConfig(**LORA, total_step=10),
    "loha": LoHaConfig(**LORA),
    "oft": OFTConfig(task_type="CAUSAL_LM", oft_block_size=8, target_modules=ATTENTION),
    "vera": VeraConfig(**LORA),
    "ia3": IA3Config(
        task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
    "norms": LNTuningConfig(task_type="CAUSAL_LM", target_modules=["input_layernorm"]),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return causal(tmp_path_factory.mktemp("base") / "base", "llama")


@pytest.fixture(scope="module")
def lora(base, tmp_path_factory) -> str:
    return adapt(base, tmp_path_factory.mktemp("adapter") / "lora", LoraConfig(**LORA))


def law(model: str, **changes) -> P0:
    settings = {"dtype": "float32", "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 6}
    return P0(model=reference.checkpoint(model), ends=(0,), named_ends=(0,), **{**settings, **changes})


def drawn(model: str, **changes) -> list[tuple]:
    engine = TransformersEngine(law(model, **changes), "cpu")
    seeds = np.array([keys.seeds_for(0, [prompt], 0, 8)[0] for prompt in PROMPTS])
    return [sample for samples in engine.draw(PROMPTS, seeds, 0) for sample in samples]


def numbers(model, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float()


def refused(model: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as found:
        causal_model(reference.checkpoint(model), "cpu", "float32")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_adapter_gives_the_numbers_of_the_adapter_on_its_base(base, tmp_path, kind):
    folder = adapt(base, tmp_path / "adapter", KINDS[kind])
    ids = [1, 2, 3, 4, 5, 6, 1, 3]
    exact = numbers(adapted(base, folder), ids)
    found = numbers(causal_model(reference.checkpoint(folder), "cpu", "float32"), ids)
    assert (exact - numbers(AutoModelForCausalLM.from_pretrained(base), ids)).abs().max() > 0.01
    assert torch.allclose(found, exact, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_other_families_merge_alike(tmp_path, family):
    base = causal(tmp_path / "base", family)
    folder = adapt(
        base, tmp_path / "adapter", LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
    )
    exact = numbers(adapted(base, folder), [1, 2, 3, 4])
    found = numbers(causal_model(reference.checkpoint(folder), "cpu", "float32"), [1, 2, 3, 4])
    assert torch.allclose(found, exact, atol=1e-4)


def test_logprob_and_nll_are_those_of_the_merged_model(base, lora):
    model = adapted(base, lora).merge_and_unload()
    tokenizer = AutoTokenizer.from_pretrained(base)
    for sample, prompt in zip(drawn(lora), np.repeat(PROMPTS, 8), strict=True):
        start, ids = tokenizer(prompt)["input_ids"], tokenizer(prompt + sample.completion)["input_ids"]
        ended = [0] if sample.finish_reason == "stop" else []
        steps = numbers(model, ids + ended).log_softmax(-1)[:-1]
        picked = steps.gather(1, torch.tensor([(ids + ended)[1:]]).T)[:, 0]
        assert sample.logprob == pytest.approx(float(picked[len(start) - 1 :].sum()), abs=1e-4)
        assert sample.nll == pytest.approx(
            text_nll(model, tokenizer, [prompt + sample.completion], "cpu")[0][0], abs=1e-4
        )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merged_checkpoint_gives_the_same_draws(base, lora, tmp_path, dtype):
    merged = str(tmp_path / "merged")
    adapted(base, lora).merge_and_unload().save_pretrained(merged)
    letters_tokenizer().save_pretrained(merged)
    ways = [drawn(model, dtype=dtype) for model in (lora, f"{base}+{lora}", merged)]
    assert ways[0] == ways[1] == ways[2]
    assert ways[0] != drawn(base, dtype=dtype)


def test_an_adapter_on_an_adapter_is_merged_behind_it(base, lora, tmp_path):
    first = tmp_path / "first"
    model = adapted(base, lora).merge_and_unload()
    model.save_pretrained(first)
    second = adapt(str(first), tmp_path / "second", LoraConfig(**LORA))
    exact = numbers(adapted(str(first), second).merge_and_unload(), [1, 2, 3])
    change(second, base_model_name_or_path=lora)
    for name in (second, f"{lora}+{second}", f"{base}+{lora}+{second}"):
        ref = reference.checkpoint(name)
        assert [Path(adapter.source).name for adapter in ref.adapters] == ["lora", "second"]
        assert torch.allclose(numbers(causal_model(ref, "cpu", "float32"), [1, 2, 3]), exact, atol=1e-4)


@pytest.mark.parametrize("saved", ["by itself", "in modules_to_save"])
@pytest.mark.parametrize("rows", [11, 16])
@pytest.mark.parametrize("tied", [True, False])
def test_tokens_that_were_added_are_those_of_the_adapter(tmp_path, saved, rows, tied):
    base = causal(tmp_path / "base", "gpt2" if tied else "llama")
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(rows)
    layers = (["wte"] if tied else ["embed_tokens", "lm_head"]) if saved == "in modules_to_save" else None
    how = {"modules_to_save": layers, "ensure_weight_tying": tied and bool(layers)}
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", **how)
    folder = save(model, tmp_path / "adapter", config)
    tokenizer = letters_tokenizer()
    tokenizer.add_tokens(["<g>", "<h>", "<i>"])
    tokenizer.save_pretrained(folder)
    ref = reference.checkpoint(folder)
    assert len(load_tokenizer(ref)) == 11
    assert load_tokenizer(ref)("a<h>b")["input_ids"] == [1, 9, 2]
    found = causal_model(ref, "cpu", "float32")
    assert found.get_input_embeddings().weight.shape[0] == found.config.vocab_size == rows
    other = AutoModelForCausalLM.from_pretrained(base)
    other.resize_token_embeddings(rows, mean_resizing=False)
    from peft import PeftModel

    exact = numbers(PeftModel.from_pretrained(other, folder).eval(), [1, 9, 10, 2])
    assert torch.allclose(numbers(found, [1, 9, 10, 2]), exact, atol=1e-4)


def test_keys_hold_the_weights_of_base_and_adapter(base, lora, tmp_path):
    plain, ref = reference.checkpoint(base), reference.checkpoint(lora)
    assert "adapters" not in plain.identity
    assert ref.identity == {
        **plain.identity,
        "adapters": [{"revision": ref.adapters[0].revision, "model": ""}],
    }
    assert reference.checkpoint(f"{base}+{lora}").identity == ref.identity
    copy = str(shutil.copytree(lora, tmp_path / "copy"))
    assert reference.checkpoint(copy).identity == ref.identity
    weights = load_file(f"{copy}/adapter_model.safetensors")
    save_file({name: weight * 2 for name, weight in weights.items()}, f"{copy}/adapter_model.safetensors")
    assert reference.checkpoint(copy).identity != ref.identity


def test_a_run_draws_from_an_adapter_and_says_so(lora, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("ab\nfade\n")
    config = Original(
        basemodel=lora, data=str(prompts), nsamples=4, max_new_tokens=4, save_directory=str(tmp_path / "out")
    )
    run(prepare(config))
    manifest = json.loads(next((tmp_path / "out").glob("*/manifest.json")).read_text())
    assert manifest["p0"]["adapters"] == reference.checkpoint(lora).identity["adapters"]


@pytest.mark.parametrize("written", ["base", "./base", "../base", "models/base"])
def test_a_base_is_found_from_here_and_from_beside_the_adapter(base, lora, tmp_path, monkeypatch, written):
    monkeypatch.chdir(tmp_path)
    adapter = change(
        str(shutil.copytree(lora, tmp_path / "run" / "adapter")), base_model_name_or_path=written
    )
    place = tmp_path / written if written[0] == "m" else Path(adapter) / written
    shutil.copytree(base, place)
    assert reference.checkpoint(adapter).revision == reference.checkpoint(base).revision
    if written in ("base", "./base"):
        shutil.copytree(base, tmp_path / "base")
        refused(adapter, "whose base '.*base' is both .*base and .*base: pass BASE.ADAPTER")
        assert reference.checkpoint(f"{base}+{adapter}").adapters


def test_folders_may_have_a_plus_in_their_names(base, lora, tmp_path):
    other = str(shutil.copytree(base, tmp_path / "c++" / "base"))
    adapter = str(shutil.copytree(lora, tmp_path / "c++" / "a+b"))
    for name in (f"{other}+{adapter}", f"{base}+{adapter}", adapter):
        assert len(reference.checkpoint(name).adapters) == 1
    assert not reference.checkpoint(other).adapters


def test_weights_by_torch_are_read_where_they_are_tensors_alone(base, lora, tmp_path):
    folder = Path(shutil.copytree(lora, tmp_path / "adapter"))
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    assert drawn(str(folder)) == drawn(lora)

    class Harm:
        def __reduce__(self):
            return (Path(tmp_path / "harm").touch, ())

    (folder / "adapter_model.bin").write_bytes(pickle.dumps({"x": Harm()}))
    refused(
        str(folder), "holds more than tensors, which is never unpickled: save it as adapter_model.safetensors"
    )
    assert not (tmp_path / "harm").exists()


def test_a_start_that_changes_the_base_is_taken_or_refused(base, lora, tmp_path):
    for start in ("pissa_niter_4", "corda", "loftq"):
        refused(
            change(str(shutil.copytree(lora, tmp_path / start)), init_lora_weights=start), "on a changed base"
        )


PROMPT = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3}


@pytest.mark.parametrize("config", [PrefixTuningConfig(**PROMPT), PromptTuningConfig(**PROMPT)])
def test_what_does_not_merge_is_refused_by_name_before_anything_loads(base, tmp_path, config):
    folder = adapt(base, tmp_path / "adapter", config)
    with pytest.raises(
        ModelError, match=f"of type {config.peft_type.value}, which does not merge into weights: use"
    ):
        reference.checkpoint(folder)


SETTINGS = [
    ({"peft_type": "ADAPTION_PROMPT"}, "of type ADAPTION_PROMPT, which does not merge"),
    ({"peft_type": "XLORA"}, "of type XLORA, which does not merge"),
    ({"peft_type": "NEWLORA"}, "peft 0.* does not take its adapter_config.json .KeyError: 'NEWLORA'"),
    ({"peft_type": None}, "does not say the adapter's type"),
    ({"alora_invocation_tokens": [1, 2]}, "an adapter with alora_invocation_tokens, which does not merge"),
    ({"layer_replication": [[0, 2]]}, "an adapter with layer_replication, which does not merge"),
    ({"use_newest": True}, "with use_newest, which peft .* does not know: pip install -U peft"),
    ({"task_type": "SEQ_CLS"}, "an adapter for SEQ_CLS, and one for CAUSAL_LM is needed here"),
    ({"task_type": "SEQ_2_SEQ_LM"}, "an adapter for SEQ_2_SEQ_LM"),
    ({"base_model_name_or_path": None}, "names no base model in its adapter_config.json: pass BASE.ADAPTER"),
    ({"base_model_name_or_path": "/gone/base"}, "is an adapter: its base '/gone/base' was not found"),
    (
        {"base_model_name_or_path": "org/base", "revision": "v1"},
        "is an adapter: its base 'org/base' was not found",
    ),
    ({"target_modules": ["query"]}, "adapter '.*' does not load: .*query"),
    ({"r": 2}, "does not load: .*size mismatch for"),
    ({"target_modules": ["q_proj"]}, "has weights that its base has no place for: .*v_proj"),
    ({"modules_to_save": ["lm_head"]}, "lacks weights: .*lm_head.weight"),
    ({"target_modules": ["q_proj", "v_proj", "k_proj"]}, "lacks weights: .*k_proj"),
]


@pytest.mark.parametrize(("settings", "words"), SETTINGS)
def test_an_adapter_that_does_not_fit_is_refused_in_one_line(lora, tmp_path, settings, words):
    refused(change(str(shutil.copytree(lora, tmp_path / "adapter")), **settings), words)


def test_a_setting_that_is_new_and_not_in_use_is_no_matter(lora, tmp_path):
    folder = change(str(shutil.copytree(lora, tmp_path / "adapter")), use_newest=False, newer=[])
    assert reference.checkpoint(folder).adapters


@pytest.mark.parametrize("text", ["", "{broken", "[]", "{}", '{"peft_type": 3}'])
def test_a_configuration_that_cannot_be_read_is_named(lora, tmp_path, text):
    folder = Path(shutil.copytree(lora, tmp_path / "adapter"))
    (folder / "adapter_config.json").write_text(text)
    refused(str(folder), "adapter_config.json (can't be read|does not say)")


@pytest.mark.parametrize("data", [b"", b"weights"])
def test_weights_that_cannot_be_read_are_named(lora, tmp_path, data):
    folder = Path(shutil.copytree(lora, tmp_path / "adapter"))
    (folder / "adapter_model.safetensors").write_bytes(data)
    refused(str(folder), "its weights can't be read")
    (folder / "adapter_model.safetensors").unlink()
    refused(str(folder), "an adapter without its weights: there is no adapter_model.safetensors")


def test_weights_that_are_not_finite_are_refused(lora, tmp_path):
    folder = Path(shutil.copytree(lora, tmp_path / "adapter"))
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name: weight * torch.nan for name, weight in weights.items()}, folder / "adapter_model.safetensors"
    )
    refused(str(folder), "does not load: NaNs detected in the merged weights")


def test_tied_embeddings_that_were_trained_for_one_side_are_refused(tmp_path):
    base = causal(tmp_path / "base", "gpt2")
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["wte"])
    refused(adapt(base, tmp_path / "adapter", config), "does not (merge|load): .*tie")


def test_an_adapter_of_another_shape_is_refused(lora, tmp_path):
    other = causal(tmp_path / "other", "gpt2")
    refused(f"{other}+{lora}", "does not load: Target modules .* not found in the base model")


def test_adapters_that_name_each_other_end(lora, tmp_path):
    folders = [str(shutil.copytree(lora, tmp_path / name)) for name in "ab"]
    for folder, other in zip(folders, reversed(folders), strict=True):
        change(folder, base_model_name_or_path=other)
    refused(folders[0], "whose base is, in the end, that adapter itself")
    refused(
        change(folders[0], base_model_name_or_path=folders[0]), "names itself as its base: pass BASE.ADAPTER"
    )


def test_whole_weights_beside_an_adapter_are_its_base_or_refused(base, lora, tmp_path):
    both = Path(shutil.copytree(base, tmp_path / "both"))
    for path in Path(lora).glob("adapter_*"):
        shutil.copy(path, both)
    refused(
        str(both), rf"holds whole weights \(model.safetensors\) and an adapter: pass {base}.{both} for the"
    )
    assert drawn(f"{base}+{both}") == drawn(lora)
    refused(f"{both}+{lora}", "its base '.*both' holds whole weights")
    change(str(both), base_model_name_or_path=str(both))
    assert drawn(str(both)) == drawn(lora)


def test_a_configuration_beside_an_adapter_is_no_base(base, lora, tmp_path):
    folder = Path(shutil.copytree(lora, tmp_path / "adapter"))
    shutil.copy(f"{base}/config.json", folder)
    assert drawn(str(folder)) == drawn(lora)


def test_a_folder_of_adapters_is_refused_with_where_they_lie(lora, tmp_path):
    shutil.copytree(lora, tmp_path / "run" / "checkpoint-5")
    refused(str(tmp_path / "run"), "has no config.json; an adapter lies in .*run/checkpoint-5")


def test_what_is_no_adapter_is_refused_behind_a_plus(base, tmp_path):
    refused(
        f"{base}+{base}", "its adapter '.*base' is no adapter, or not a whole one: there is no adapter_config"
    )
    refused(f"{base}+{tmp_path}/gone", "its adapter '.*gone' was not found")
    refused(f"{tmp_path}/gone+{base}", "its adapter '.*base' is no adapter")


def test_a_quantised_base_is_refused(base, lora, tmp_path):
    other = Path(shutil.copytree(base, tmp_path / "base"))
    config = json.loads((other / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (other / "config.json").write_text(json.dumps(config))
    refused(f"{other}+{lora}", "is quantised, and no adapter merges into that: name the base that is not")


def test_a_classifiers_adapter_does_not_draw(base, tmp_path):
    config = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=ATTENTION)
    folder = adapt(base, tmp_path / "adapter", config, AutoModelForSequenceClassification)
    refused(folder, "is an adapter for SEQ_CLS, and one for CAUSAL_LM is needed here")
    refused(change(folder, task_type=None), "has weights that its base has no place for: .*score")


def test_without_peft_it_is_said_what_to_install(lora, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(
        ModelError, match=r"is an adapter, which needs the package peft: pip install 'exptilt\[peft\]'"
    ):
        reference.checkpoint(lora)
