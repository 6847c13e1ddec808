"""Adapters of peft merged into the weights of their base, so that p0 or a reward model is one plain model.

Merging is in float32, and tried: the merged model must give the numbers of the adapter on its base.
"""

import warnings
from typing import Any, Final

import torch

from exptilt.errors import ModelError
from exptilt.models.adapter_weights import PREFIX, Shapes, shapes
from exptilt.models.reference import ModelRef
from exptilt.wording import counted, reason

AGREE, NOTHING = 1e-3, 1e-6  # of the numbers' spread in float32; and what is none of it
TRIED: Final = 8  # tokens
SHOWN: Final = 3  # weights named in an error
Tensor = torch.Tensor


def merged(model: Any, adapters: tuple[ModelRef, ...]) -> Any:
    """`model`, in float32 on the CPU, with the adapters merged into its weights one after the other.

    Raises ModelError, which names the adapter, where one does not fit the model or does not merge.
    """
    for adapter in adapters:
        try:
            with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
                warnings.simplefilter("ignore")
                model = _merged(model, adapter)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"adapter {adapter.name!r} does not load: {reason(error)}") from error
    return model


def _merged(model: Any, adapter: ModelRef) -> Any:
    held = shapes(adapter)
    _resize(model, held, adapter)
    wrapped = _wrapped(model, held, adapter)
    exact = _numbers(wrapped)
    model = wrapped.merge_and_unload(safe_merge=True).eval()
    _check_same(_numbers(model), exact, adapter)
    return model


def _wrapped(model: Any, held: Shapes, adapter: ModelRef) -> Any:
    """The adapter on its base; ModelError where not all of its weights are there, or have a place."""
    from peft import get_peft_model

    folder = str(adapter.adapter_folder)
    wrapped = get_peft_model(model, _config(folder))
    try:
        found = wrapped.load_adapter(folder, "default", torch_device="cpu")
    except KeyError as error:  # of a module that is saved whole
        raise ModelError(f"adapter {adapter.name!r} lacks weights: {error.args[0]}") from error
    whole = ".modules_to_save."  # peft saves resized ones once more, by this name
    twice = {f"{PREFIX}{name}" for name in held if whole in name and name.replace(whole, ".") in held}
    surplus = sorted({*found.unexpected_keys} - twice)
    _check_none(surplus, "has weights that its base has no place for", adapter)
    _check_none(found.missing_keys, "lacks weights", adapter)
    return wrapped


def _config(folder: str) -> Any:
    """The adapter's configuration for peft, without what it adds for generation, which no classifier has."""
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(folder)
    config.task_type = None if config.task_type == "CAUSAL_LM" else config.task_type
    return config


def _check_none(names: list[str], said: str, adapter: ModelRef) -> None:
    if names:
        raise ModelError(f"adapter {adapter.name!r} {said}: {', '.join(sorted(names)[:SHOWN])}")


def _resize(model: Any, held: Shapes, adapter: ModelRef) -> None:
    """Make room for the tokens that the adapter has embeddings for; ModelError where it has no weights of
    them in the output layer."""
    rows = _rows(model, model.get_input_embeddings(), held)
    if not rows or rows == model.get_input_embeddings().weight.shape[0]:
        return
    model.resize_token_embeddings(rows, mean_resizing=False)
    output = model.get_output_embeddings()
    is_tied = output is None or output.weight is model.get_input_embeddings().weight
    if not is_tied and _rows(model, output, held) != rows:
        raise ModelError(
            f"adapter {adapter.name!r} has embeddings of {counted(rows, 'token')}, but its output layer has "
            "not: save it with save_embedding_layers=True"
        )


def _rows(model: Any, layer: Any, held: Shapes) -> int:
    """The rows of an embedding or an output layer that the adapter holds whole, 0 where it holds none."""
    name = next(name for name, module in model.named_modules() if module is layer)
    names = [f"{name}.{inner}weight" for inner in ("", "base_layer.", "modules_to_save.default.")]
    return next((held[full][0] for full in names if full in held), 0)


def _numbers(model: Any) -> Tensor:
    """What the model gives for some tokens, the end token behind them."""
    size = model.get_input_embeddings().weight.shape[0]
    end = model.config.get_text_config().eos_token_id
    ends = [end] if isinstance(end, int) and end < size else []
    tokens = torch.tensor([[i % size for i in range(TRIED)] + ends])
    given: Tensor = model(input_ids=tokens, attention_mask=torch.ones_like(tokens))[0]
    return given


def _check_same(found: Tensor, exact: Tensor, adapter: ModelRef) -> None:
    """Raise ModelError where the merged model gives other numbers than the adapter on its base."""
    apart = float((found - exact).abs().max())
    size = max(float(exact.std(correction=0)), 0.1 * float(exact.abs().max()))
    if not apart <= AGREE * size + NOTHING:
        raise ModelError(
            f"adapter {adapter.name!r} does not merge: the numbers would move by {apart:.2g}. Weights that "
            "layers share (tied embeddings) cannot take what was trained for one: untie them in the base, "
            "train with ensure_weight_tying, or serve base and adapter and pass http://HOST:PORT/v1#MODEL"
        )
