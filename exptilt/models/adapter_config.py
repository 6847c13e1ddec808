"""What an adapter's adapter_config.json says: its base model, and the kinds of adapter that are refused."""

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any, Final

from exptilt.errors import ModelError

FILE: Final = "adapter_config.json"
WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin")
NOT_MERGED: Final = frozenset(  # types that act on the prompt or the activations, and not on the weights
    "PROMPT_TUNING MULTITASK_PROMPT_TUNING P_TUNING PREFIX_TUNING CPT CARTRIDGE ADAPTION_PROMPT "
    "POLY XLORA LILY SHADOW".split()
)
NOT_MERGED_WITH: Final = ("alora_invocation_tokens", "arrow_config", "use_qalora", "layer_replication")
OTHER_BASE: Final = ("pissa_niter", "corda", "loftq")  # starts that change the base, and not alike each time
USE_ANOTHER: Final = (
    "use one that merges (LoRA, for example), or serve base and adapter and pass http://HOST:PORT/v1#MODEL"
)


def read(folder: Path, said: str, task: str) -> dict[str, Any]:
    """The configuration of the adapter in `folder`.

    Args:
        folder: where its files lie.
        said: what errors begin with.
        task: what the adapter must be for, as peft names it; "" for any.

    Raises:
        ModelError: it cannot be read, is of another task, does not merge into weights, has no weights, or
            peft is not installed or too old for it.
    """
    config = _parsed(folder, said)
    _check_merges(config, said)
    found = config.get("task_type")
    if task and found and found != task:
        raise ModelError(f"{said} is an adapter for {found}, and one for {task} is needed here")
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise ModelError(f"{said} is an adapter without its weights: there is no {WEIGHTS[0]}")
    _check_known(config, said)
    return config


def _parsed(folder: Path, said: str) -> dict[str, Any]:
    try:
        config = json.loads((folder / FILE).read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{said} is no adapter, or not a whole one: there is no {FILE}") from None
    except (ValueError, RecursionError, OSError) as error:
        raise ModelError(f"{said}: its {FILE} can't be read ({error}); save the adapter anew") from error
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        raise ModelError(f"{said}: its {FILE} does not say the adapter's type (peft_type); save it anew")
    return config


def _check_merges(config: dict[str, Any], said: str) -> None:
    kind, start = config["peft_type"], str(config.get("init_lora_weights"))
    if kind in NOT_MERGED:
        raise ModelError(
            f"{said} is an adapter of type {kind}, which does not merge into weights: {USE_ANOTHER}"
        )
    used = next((name for name in NOT_MERGED_WITH if config.get(name)), "")
    if used:
        raise ModelError(f"{said} is an adapter with {used}, which does not merge: {USE_ANOTHER}")
    if start.startswith(OTHER_BASE):
        raise ModelError(
            f"{said} is an adapter on a changed base (init_lora_weights {start!r}): convert it to plain LoRA "
            "(path_initial_model_for_weight_conversion of peft's save_pretrained)"
        )


def _check_known(config: dict[str, Any], said: str) -> None:
    """Raise ModelError unless the installed peft supports the type and all settings that are in use."""
    if importlib.util.find_spec("peft") is None:
        raise ModelError(f"{said} is an adapter, which needs the package peft: pip install 'exptilt[peft]'")
    from peft import PeftConfig, __version__

    settings = {name: value for name, value in config.items() if name != "runtime_config"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            known = PeftConfig.from_peft_type(**settings)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ModelError(f"{said}: peft {__version__} does not take its {FILE} ({reason})") from error
    unknown = sorted(name for name, value in settings.items() if value and not hasattr(known, name))
    if unknown:
        raise ModelError(
            f"{said} is an adapter by peft {config.get('peft_version') or 'of another version'} with "
            f"{', '.join(unknown)}, which peft {__version__} does not know: pip install -U peft"
        )


def base_source(config: dict[str, Any], folder: Path, said: str) -> str:
    """Where the base model of an adapter lies by its configuration: a folder, seen from the working directory
    (as peft sees it) or from the adapter's, or a name.

    Raises ModelError where it names none, or either folder is a model.
    """
    name = config.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise ModelError(f"{said} is an adapter that names no base model in its {FILE}: pass BASE+ADAPTER")
    places = [place for place in (Path(name).expanduser(), folder / name) if _is_model(place)]
    if len({place.resolve() for place in places}) > 1:
        both = " and ".join(str(place.resolve()) for place in places)
        raise ModelError(f"{said} is an adapter whose base {name!r} is both {both}: pass BASE+ADAPTER")
    return str(places[0]) if places else name


def _is_model(folder: Path) -> bool:
    try:
        return any((folder / name).is_file() for name in ("config.json", FILE))
    except (OSError, ValueError):
        return False
