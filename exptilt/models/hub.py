"""What the Hub, or its local cache, holds of a repository: its commit and its files."""

from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from exptilt.errors import ModelError

SECONDS: Final = 10.0
OF_AN_ADAPTER: Final = ["adapter_*", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken"]


class Listing(NamedTuple):
    """A repository's commit and the names of its files."""

    commit: str
    names: tuple[str, ...]


@lru_cache(maxsize=64)
def look_up(source: str, role: str, revision: str | None = None) -> Listing:
    """The commit and files of a Hub repository.

    Args:
        source: its id.
        role: what an error calls the model.
        revision: a branch, tag or commit; None is the main branch as it is now, or as a local copy holds it
            where no Hub answers.

    Raises:
        ModelError: where there is none.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = HfApi().model_info(source, revision=revision, timeout=SECONDS)
    except HFValidationError:
        reason = "it is neither a known name, a local folder nor a Hub id"
    except GatedRepoError:
        reason = "its owner requires that you accept its terms on the Hub and log in"
    except RevisionNotFoundError:
        reason = f"the Hub has no revision {revision!r} of it"
    except RepositoryNotFoundError:
        reason = "the Hub has no such model"
    except Exception:
        kept = _kept(source, revision)
        if kept:
            return Listing(kept.name, tuple(_names(kept)))
        reason = f"no Hub is in reach; pass a local folder instead (hf download {source})"
    else:
        return Listing(str(found.sha), tuple(file.rfilename for file in found.siblings or ()))
    raise ModelError(f"{role} {source!r} was not found: {reason}")


def _kept(source: str, revision: str | None) -> Path | None:
    """The copy of `source` in the Hub's local cache, a folder called as its commit, if there is one."""
    from huggingface_hub import try_to_load_from_cache

    names = ("config.json", "adapter_config.json")
    paths = [try_to_load_from_cache(source, name, revision=revision) for name in names]
    return next((Path(path).parent for path in paths if isinstance(path, str)), None)


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*")]


@lru_cache(maxsize=64)
def adapter_folder(source: str, commit: str | None, said: str) -> Path:
    """The folder of an adapter's files.

    Args:
        source: a local folder, or a Hub id.
        commit: the Hub's, whose files are fetched to the local cache; None for a local folder.
        said: how an error begins.

    Raises:
        ModelError: where the files are not fetched.
    """
    if commit is None:
        return Path(source)
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(source, revision=commit, allow_patterns=OF_AN_ADAPTER, ignore_patterns="*/*")
        )
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{said} is an adapter that was not fetched: {reason}") from error
