"""How much memory drawing may take, and how to know that it was too much."""

from typing import Any, Final

import psutil
import torch

SHARE: Final = {"cpu": 0.25, "cuda": 0.6}  # of what is free once the weights are loaded
NO_ROOM: Final = "can't allocate memory"  # what torch says on a CPU


def free_bytes(device: str) -> float:
    """Bytes that drawing may take on `device` now."""
    if device.startswith("cpu"):
        return SHARE["cpu"] * psutil.virtual_memory().available
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return SHARE["cuda"] * (torch.cuda.mem_get_info(device)[0] + unused)


def bytes_per_prompt(config: Any, itemsize: int, length: int, n: int, new: int, shared: bool) -> int:
    """About what one prompt's samples take while they are drawn: keys, values, logits with float32 copies.

    Args:
        config: the model's configuration.
        itemsize: bytes per number.
        length: the prompt's tokens.
        n: samples per prompt.
        new: tokens per sample at most.
        shared: whether the prompt's keys and values are held once for all its samples.

    Returns:
        Bytes.
    """
    hidden = _number(config, "hidden_size", 1024)
    heads = _number(config, "num_attention_heads", 1)
    width = _number(config, "head_dim", hidden // heads)
    heads = _number(config, "num_key_value_heads", heads)
    token = 2 * _number(config, "num_hidden_layers", 32) * heads * width * itemsize
    tokens = length + n * new if shared else n * (length + new)
    return int(token * tokens + (itemsize + 8) * config.vocab_size * (length + n))


def _number(config: Any, name: str, otherwise: int) -> int:
    """A number of a configuration; the largest where it lists one per layer."""
    try:
        found = getattr(config, name, None) or otherwise
    except RuntimeError:  # it differs by layer, and the configuration as a whole has none
        found = [getattr(layer, name, otherwise) for layer in config.per_layer_config]
    return max(found) if isinstance(found, (list, tuple)) else int(found)


def is_exhausted(error: BaseException) -> bool:
    """Whether `error` says that there was too little memory."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or NO_ROOM in str(error)
