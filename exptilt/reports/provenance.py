"""What a data set was made with: versions and the commit of this code, without the machine's secrets."""

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from exptilt import __version__

PACKAGES: Final = ("torch", "transformers", "datasets", "prefect", "polars", "numpy", "s3fs")


@lru_cache(maxsize=1)
def made_with() -> dict[str, Any]:
    """Versions of exptilt, Python and the libraries, and the commit of a git checkout of exptilt."""
    return {
        "exptilt": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit, with -dirty behind it where files have changed; None outside a checkout."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(
            command,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
