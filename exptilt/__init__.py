"""Text from a tilted language model: runs, and the mathematics on arrays, loaded at their first use."""

from importlib import import_module
from typing import Any, Final

__version__ = "0.1.0"

_NAMES: Final = {
    "exptilt.api": ("original", "mc_aligned", "score", "sweep", "palette"),
    "exptilt.outputs.constants": ("constants",),
    "exptilt.outputs.result": ("Result",),
    "exptilt.tilting.weights": ("log_weights", "normalise", "levels"),
    "exptilt.tilting.diagnostics": ("Diagnosis", "diagnose"),
    "exptilt.tilting.resampling": ("resample",),
    "exptilt.errors": ("ExptiltError",),
}
_MODULES: Final = {name: module for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", *_MODULES]  # noqa: PLE0604 - strings all; __init__.pyi has them for type checkers


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'exptilt' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
