"""Small random adapters of peft on small random checkpoints, saved as training saves them."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM


def adapt(
    base: str, folder: Path, config: PeftConfig, auto: Any = AutoModelForCausalLM, **settings: Any
) -> str:
    """A random adapter on `base`, whose model is loaded by `auto` with `settings`, in `folder`."""
    return save(auto.from_pretrained(base, **settings), folder, config)


def save(model: Any, folder: Path, config: PeftConfig, **how: Any) -> str:
    """A random adapter on `model` in `folder`: what a training would move is moved."""
    torch.manual_seed(1)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        wrapped = get_peft_model(model, config)
        for weight in wrapped.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.3)
        wrapped.save_pretrained(folder, **how)
    return str(folder)


def adapted(base: str, folder: str, auto: Any = AutoModelForCausalLM, **settings: Any) -> Any:
    """The adapter on its base, not merged, as peft loads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(auto.from_pretrained(base, **settings), folder).eval()


def change(folder: str, **settings: Any) -> str:
    """Change what the adapter's configuration says; None takes a setting out."""
    path = Path(folder) / "adapter_config.json"
    config = {**json.loads(path.read_text()), **settings}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return folder
