"""A saved data set put on the Hugging Face Hub: its tables, its manifest, and a card of its own."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from exptilt.data import hub_repository
from exptilt.data.hub_repository import Repository
from exptilt.errors import ConfigError, MissingError, PushFailed, Stopped, StorageError
from exptilt.planning.plan import Plan
from exptilt.planning.publishing import repository_of
from exptilt.reports import dataset_card
from exptilt.reports.summary import Summary
from exptilt.run import in_its_run
from exptilt.storage import filesystem, pool
from exptilt.storage.paths import is_local
from exptilt.wording import reason

SOURCE: Final = re.compile(r"^source = .*$", re.M)
OLDER: Final = re.compile(r"^- (records|data set|page|--save-directory|--endpoint-url): .*\n", re.M)  # paths


@in_its_run
def published(plan: Plan, summary: Summary) -> Summary:
    """`summary`, its data set put on the Hub where the run's configuration says so.

    Raises:
        PushFailed: it was not; the data set is saved, and the text says how to push it later.
    """
    to = repository_of(plan.recipe.config)
    if to is None:
        return summary
    try:
        _push(summary.folder, to)
    except Stopped:
        raise
    except Exception as error:
        raise PushFailed(_how_to_push(summary.folder, to, error), summary) from error
    summary.pushed = _where(to)
    return summary


def push(folder: str, to: Repository) -> str:
    """Put the data set in `folder`, local or on S3, on the Hub; where it is then.

    Raises:
        ConfigError: there is no data set, or the Hub would not take it.
        StorageError: a file of the data set is not as it was written.
        PushFailed: the Hub did not take it all; nothing of it is there then.
    """
    _manifest(folder)
    hub_repository.check(to)
    try:
        _push(folder, to)
    except (StorageError, Stopped):
        raise
    except Exception as error:
        raise PushFailed(f"not pushed to {to.name}: {reason(error)}; the same command tries again") from error
    return _where(to)


def _push(folder: str, to: Repository) -> None:
    manifest = _manifest(folder)
    with _tables(folder, manifest) as files:
        places = _places(manifest["configuration"]["save_directory"])
        files["README.md"] = _renamed(_card(folder, to), places).encode()
        files[pool.MANIFEST] = filesystem.json_bytes(_renamed(_cleaned(manifest), places))
        title = manifest["summary"]["title"]
        hub_repository.put(to, files, dataset_card.ORDER, f"{title}, by exptilt")


def _manifest(folder: str) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = filesystem.read_json(filesystem.join(folder, pool.MANIFEST))
        _ = manifest["files"], manifest["summary"]["title"]
    except (MissingError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder}: no data set lies there; give the folder that a run names") from error
    return manifest


@contextmanager
def _tables(folder: str, manifest: dict[str, Any]) -> Iterator[dict[str, str | bytes]]:
    """The local paths of a data set's tables, by their names; StorageError where one is not as it was."""
    with TemporaryDirectory() as copies:
        files: dict[str, str | bytes] = {}
        for name, said in manifest["files"].items():
            path = local = filesystem.join(folder, name)
            if not is_local(path):
                local = str(Path(copies, name))
                Path(local).parent.mkdir(parents=True, exist_ok=True)
                filesystem.fetch(path, local)
            if filesystem.digest(local) != said["sha256"]:
                raise StorageError(f"{path} is not as it was written: run the same command again")
            files[name] = local
        yield files


def _card(folder: str, to: Repository) -> str:
    """The card as the Hub shows it: with its license and languages, and loaded from there."""
    from huggingface_hub import DatasetCard

    card = DatasetCard(filesystem.read_bytes(filesystem.join(folder, "README.md")).decode())
    for name, said in to.card_data.items():
        setattr(card.data, name, said)
    text = OLDER.sub("", card.text).replace('"THIS_FOLDER"', json.dumps(to.name))
    card.text = SOURCE.sub(dataset_card.source(to.name), text, count=1)
    return str(card)


def _cleaned(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest without where things lie on one machine."""
    configuration = {
        k: v for k, v in manifest["configuration"].items() if k not in dataset_card.OF_ONE_MACHINE
    }
    summary = {k: v for k, v in manifest["summary"].items() if k not in ("json", "folder")}
    return {**manifest, "configuration": configuration, "summary": summary}


def _places(root: str) -> dict[str, str]:
    """What is written otherwise in texts that leave this machine: the save directory, the home folder."""
    is_whole = os.path.isabs(root) or not is_local(root)
    return {**({f"{root}/": ""} if is_whole else {}), f"{os.path.expanduser('~')}/": "~/"}


def _renamed(said: Any, places: dict[str, str]) -> Any:
    """`said` with what stands in `places` in its texts replaced: paths of one machine."""
    if isinstance(said, dict):
        return {name: _renamed(value, places) for name, value in said.items()}
    if isinstance(said, list):
        return [_renamed(value, places) for value in said]
    if isinstance(said, str):
        for place, name in places.items():
            said = said.replace(place, name)
    return said


def _where(to: Repository) -> str:
    return f"{to.url} ({'public' if to.public else 'private'})"


def _how_to_push(folder: str, to: Repository, error: Exception) -> str:
    flags = f"--license {to.license} --language {','.join(to.languages)}{' --public' if to.public else ''}"
    again = f"exptilt push '{folder}' {to.name} {flags}"
    return f"not pushed to {to.name}: {reason(error)}; the data set is saved, to push it later: {again}"
