"""A data set's repository on the Hugging Face Hub: whether it may be written, and its files in one commit."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from exptilt.errors import ConfigError
from exptilt.wording import reason

KIND: Final = "dataset"
MANIFEST: Final = "manifest.json"
OF_THE_HUB: Final = (".gitattributes", "README.md")  # what an empty repository may hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """Where a data set goes: ORG/NAME, what its card says of license and languages, and who may see it."""

    name: str
    license: str
    languages: tuple[str, ...]
    public: bool = False

    @property
    def url(self) -> str:
        """Its page."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/datasets/{self.name}"

    @property
    def card_data(self) -> dict[str, Any]:
        """What its card's front matter says of it."""
        languages = list(self.languages)
        return {"license": self.license, "language": languages, "task_categories": ["text-generation"]}


def check(to: Repository) -> None:
    """Raise ConfigError, of one line, where the Hub would not take a data set; a repository that is not there
    is created, empty."""
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise ConfigError(f"{to.name}: no token of the Hub: run hf auth login, or set HF_TOKEN")
    api = HfApi()
    try:
        api.whoami()
    except Exception as error:
        raise ConfigError(f"{to.name}: {_why(error, 'the Hub does not know the token')}") from error
    _check_card(to)
    _check_there(api, to)


def _check_card(to: Repository) -> None:
    """Ask the Hub whether it takes license and languages."""
    from huggingface_hub import DatasetCard, DatasetCardData

    try:
        DatasetCard(f"---\n{DatasetCardData(**to.card_data).to_yaml()}\n---\n").validate()
    except Exception as error:
        raise ConfigError(f"{to.name}: the Hub does not take the card: {_complaints(error)}") from error


def _complaints(error: Exception) -> str:
    """What the Hub finds wrong with a card, which it says as JSON."""
    try:
        return "; ".join(str(each["message"]) for each in json.loads(str(error))["errors"])
    except (ValueError, KeyError, TypeError):
        return reason(error)


def _check_there(api: Any, to: Repository) -> None:
    """Create the repository where there is none; else it must be a data set's, and as visible as asked."""
    there = _found(api, to)
    refused = f"{to.name}: the token may not write there"
    try:
        if there is None:
            api.create_repo(to.name, repo_type=KIND, private=not to.public, exist_ok=True)
        api.auth_check(to.name, repo_type=KIND, write=True)
    except Exception as error:
        raise ConfigError(f"{refused} ({reason(error)})") from error
    if there is not None:
        _check_as_asked(there, to)


def _check_as_asked(there: Any, to: Repository) -> None:
    """Raise ConfigError where a repository is seen by others than asked, or holds something else."""
    if not there.private and not to.public:
        raise ConfigError(f"{to.name} is public: say so with --push-public (--public), or give another name")
    if there.private and to.public:
        raise ConfigError(f"{to.name} is private: make it public in its settings, or leave the flag out")
    files = [file.rfilename for file in there.siblings or ()]
    if MANIFEST not in files and set(files) - set(OF_THE_HUB):
        raise ConfigError(f"{to.name} holds something else than a data set of exptilt: give another name")


def _found(api: Any, to: Repository) -> Any:
    """What the Hub says of the repository; None where there is none that the token may see."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.dataset_info(to.name)
    except RepositoryNotFoundError:
        return None
    except Exception as error:
        raise ConfigError(f"{to.name}: {_why(error, 'the Hub does not answer')}") from error


def put(to: Repository, files: Mapping[str, str | bytes], tables: Sequence[str], message: str) -> None:
    """Put files there in one commit; tables of an earlier data set that are none of them go.

    Args:
        to: the repository, which is there.
        files: paths in it, each with a local path or the file's bytes.
        tables: the folders of tables that a data set may have.
        message: the commit's.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi()
    there = api.list_repo_files(to.name, repo_type=KIND)
    stale = [path for path in there if path.partition("/")[0] in tables and "/" in path and path not in files]
    gone = [CommitOperationDelete(path_in_repo=path) for path in stale]
    new = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=held) for path, held in files.items()]
    api.create_commit(to.name, [*gone, *new], commit_message=message, repo_type=KIND)


def _why(error: Exception, otherwise: str) -> str:
    """Why the Hub gave no answer of use, without the token."""
    answer = getattr(error, "response", None)
    status = getattr(answer, "status_code", None)
    with suppress(ImportError):
        from huggingface_hub.errors import OfflineModeIsEnabled

        if isinstance(error, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set, and pushing needs the Hub"
    if status == 401:
        return "the Hub does not know the token: run hf auth login again, or set HF_TOKEN"
    return f"{otherwise} ({reason(error)})"
