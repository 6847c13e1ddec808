"""The files of rows in a folder: of one format, of one split, or a data set that save_to_disk wrote."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from exptilt.data.file_names import ENDINGS, HUB_NAME, File, ending
from exptilt.errors import ConfigError
from exptilt.storage import filesystem, listing

SAVED: Final = "saved"  # stands for the ending where a File is a folder of datasets' save_to_disk
SAVED_SET, SAVED_SPLITS = "state.json", "dataset_dict.json"
NO_ROWS: Final = frozenset({"dataset_info.json", "dataset_infos.json", SAVED_SPLITS, SAVED_SET})
OF_SPLIT: Final = re.compile(r"(?:^|/)([\w.]+)-\d{5}-of-\d{5}\.")
BETWEEN: Final = r"(?:^|[/ ._-])(?:%s)(?=$|[/ ._-]|\d)"
SPLITS: Final = {
    "train": re.compile(BETWEEN % "train|training"),
    "validation": re.compile(BETWEEN % "validation|valid|val|dev"),
    "test": re.compile(BETWEEN % "test|testing|eval|evaluation"),
}
TRAIN: Final = "train"


def files_in(folder: str, split: str = "") -> list[File]:
    """The files of rows in a folder, at any depth; those of `split`."""
    names = listing.files_in(folder)
    if SAVED_SET in names and any(name.endswith(".arrow") for name in names):
        return [File(_chosen_set(folder, split), SAVED)]
    if SAVED_SPLITS in names:
        known = [name.partition("/")[0] for name in names if name.endswith(f"/{SAVED_SET}")]
        return [File(filesystem.join(folder, _chosen(folder, split, known)), SAVED)]
    rows = [name for name in names if ending(name) and name.rpartition("/")[2] not in NO_ROWS]
    if not rows:
        raise ConfigError(f"{folder}: the folder holds no file of rows ({', '.join(ENDINGS)})")
    chosen = _of_split(folder, split, rows)
    _check_one_format(folder, chosen)
    _check_one_configuration(folder, chosen)
    return [File(filesystem.join(folder, name), ending(name)) for name in chosen]


def _chosen_set(folder: str, split: str) -> str:
    return folder if not split else _chosen(folder, split, [])


def _of_split(folder: str, split: str, names: list[str]) -> list[str]:
    """Those of the files' names that are of `split`; all where it is not given and not every name tells one.

    Where it is not given and the folder is called like a data set of the Hub, `train` is meant, as there.
    """
    of = [_split_of(name) for name in names]
    known = sorted(set(of) - {""})
    if not split and ("" in of or len(known) == 1):
        return names
    as_on_the_hub = TRAIN if TRAIN in known and HUB_NAME.fullmatch(folder) else ""
    chosen = _chosen(folder, split or as_on_the_hub, known)
    return [name for name, mine in zip(names, of, strict=True) if mine == chosen]


def _split_of(name: str) -> str:
    """The split that a file's name tells, as the Hub's names do; "" where it tells none."""
    if told := OF_SPLIT.search(name):
        return told[1]
    return next((split for split, words in SPLITS.items() if words.search(name)), "")


def _chosen(folder: str, split: str, known: Sequence[str]) -> str:
    if split in known:
        return split
    if not split and len(known) == 1:
        return known[0]
    why = f"has no split {split!r}" if split else "has several splits: name one, or all by a pattern"
    there = ", ".join(f"{folder}:{name}" for name in sorted(known)) or "none"
    raise ConfigError(f"{folder} {why}; there are {there}")


def _check_one_format(folder: str, names: Iterable[str]) -> None:
    """Refuse a folder in which a table and a text beside it would both be taken for prompts."""
    formats = sorted({ending(name) for name in names})
    if len(formats) > 1:
        raise ConfigError(
            f"{folder}: the folder holds files of several formats ({', '.join(formats)}): name those that "
            f"are meant, as {filesystem.join(folder, '*' + formats[0])}"
        )


def _check_one_configuration(folder: str, names: Iterable[str]) -> None:
    """Refuse a data set as the Hub has it of which several configurations would be taken together."""
    places = sorted({name.rpartition("/")[0] for name in names if OF_SPLIT.search(name)})
    if len(places) > 1:
        one = filesystem.join(folder, places[0])
        raise ConfigError(f"{folder} has several configurations ({', '.join(places)}): name one, as {one}")
