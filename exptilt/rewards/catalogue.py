"""Which reward a value's name means: the catalogue, the user's own models, files and packages.

Its source (see asked.py) is a name of the catalogue, a FILE.py:function, a name that an installed package
registers in the entry point group exptilt.rewards, or, with NAME=, a sequence classifier as a Hub id, a
local folder or a server's URL, or the FILE.toml of an ensemble.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final

from exptilt import demo
from exptilt.errors import ConfigError, ModelError
from exptilt.models import reference
from exptilt.rewards import ensemble_file, rubric
from exptilt.rewards.asked import FUNCTION, Asked, parts
from exptilt.rewards.base import Form
from exptilt.rewards.ensemble_file import is_ensemble
from exptilt.rewards.registry import KINDS

GROUP: Final = "exptilt.rewards"
COLUMNS: Final = frozenset(
    "prompt_id prompt_index prompt source completion generated sample_index draw_index seed n_tokens "
    "finish_reason logprob nll weight log_weight ess n max_weight khat log_z kl n_unique".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One value of the catalogue: its kind, its checkpoint, its text and its label."""

    kind: str
    source: str = ""
    form: Form = "text"
    label: str = ""


CATALOGUE: Final[dict[str, Entry]] = {
    "humor": Entry(kind="classifier", source="mohameddhiab/humor-no-humor", label="1"),
    "positive": Entry(kind="classifier", source="lvwerra/distilbert-imdb", label="1"),
    "gpt2-helpful": Entry(kind="classifier", source="Ray2333/gpt2-large-helpful-reward_model", form="pair"),
    "gpt2-harmless": Entry(kind="classifier", source="Ray2333/gpt2-large-harmless-reward_model", form="pair"),
    "harmless": Entry(kind="classifier", source="OpenAssistant/reward-model-deberta-v3-large-v2"),
    "coherence": Entry(kind="coherence", source="princeton-nlp/sup-simcse-bert-base-uncased"),
    **{name: Entry(kind=name) for name, kind in KINDS.items() if kind.needs in ("rules", "base model")},
}
ALL: Final = ("humor", "gpt2-helpful", "gpt2-harmless", "diversity", "coherence", "perplexity")
KNOWN: Final = (
    f"{', '.join(CATALOGUE)}, FILE.py:function, NAME=MODEL (a Hub id, a local folder or URL#MODEL), "
    "NAME=RUBRIC@URL#MODEL (a judge), "
    "NAME=FILE.toml (an ensemble), "
    "and all; each classifier also with #LABEL, :prob or :logprob, "
    "and :text, :pair, :chat or :completion behind it"
)


def parse(value: str) -> Asked:
    """The parts of `value`; ConfigError where it is not written as a value is."""
    found = parts(value)
    if not found:
        shown = f"{value.partition('://')[0]}://…" if "://" in value else value  # a URL may hold a password
        raise ConfigError(f"unknown value {shown!r}: known are {KNOWN}")
    return found


def column_of(value: str) -> str:
    """The column that `value` fills."""
    return parse(value).column


def check_name(value: str) -> None:
    """Raise ConfigError unless `value` names a reward that there may be."""
    asked = parse(value)
    has_labels = _has_labels(asked)
    if asked.is_served:
        _check_served(asked)
    elif not has_labels:
        _check_source(value, asked.source)
    if not has_labels and (asked.label or asked.transform != "logit" or asked.form):
        raise ConfigError(
            f"--value {value}: #LABEL, :prob, :logprob and :{asked.form or 'chat'} are for classifiers"
        )
    if is_ensemble(asked.source):
        _check_members(value, asked)
    if asked.column in COLUMNS:
        raise ConfigError(f"--value {value}: the tables have a column {asked.column!r} already")


def _has_labels(asked: Asked) -> bool:
    entry = CATALOGUE.get(asked.source)
    return KINDS[entry.kind].has_labels if entry else _is_model(asked)


def _check_served(asked: Asked) -> None:
    """Raise ConfigError, which does not repeat the URL, unless it is written as a server's, has a name, and a
    rubric that can be used where it is a judge's."""
    if not asked.name:
        raise ConfigError("--value: a model behind a server needs a name: NAME=http://HOST:PORT/v1#MODEL")
    try:
        reference.at_server(asked.source)
    except ModelError as error:
        raise ConfigError(f"--value {asked.name}: {error}") from error
    if asked.rubric:
        rubric.read(asked.rubric, f"--value {asked.name}: the rubric {asked.rubric}")


def _check_members(value: str, asked: Asked) -> None:
    """Raise ConfigError unless an ensemble has a name and members that are rewards of their own names."""
    if not asked.name:
        raise ConfigError(f"--value {value}: an ensemble needs a name, NAME={asked.source}")
    columns = [asked.name]
    for member in ensemble_file.read(asked.source, value).members:
        if is_ensemble(parse(member).source):
            raise ConfigError(f"--value {value}: member {member!r} is an ensemble itself: name its members")
        try:
            check_name(member)
        except ConfigError as error:
            raise ConfigError(f"--value {value}: of its members: {error}") from error
        columns.append(column_of(member))
    twice = [column for place, column in enumerate(columns) if column in columns[:place]]
    if twice:
        raise ConfigError(f"--value {value}: the name {twice[0]!r} is there twice among it and its members")


def _check_source(value: str, source: str) -> None:
    function = FUNCTION.fullmatch(source)
    if function and not Path(function["path"]).is_file():
        raise ConfigError(f"--value {value}: there is no file {function['path']}")
    if not (function or source in CATALOGUE or is_ensemble(source) or plugin(source)):
        raise ConfigError(f"unknown value {value!r}: known are {KNOWN}")


def _is_model(asked: Asked) -> bool:
    own = asked.name and not asked.rubric and not is_ensemble(asked.source)
    return bool(own) and not FUNCTION.fullmatch(asked.source) and asked.source not in CATALOGUE


def plugin(name: str) -> EntryPoint | None:
    """What an installed package registers under `name`."""
    return next(iter(entry_points(group=GROUP, name=name)), None)


def expand(values: Sequence[str], basemodel: str, data: str) -> list[str]:
    """`values` with `all` spelled out: what the demo has, else the research code's set for the data."""
    if list(values) != ["all"]:
        return list(values)
    if basemodel == "demo":
        return list(demo.REWARDS)
    return ["positive" if v == "humor" and data == "Imdb" else v for v in ALL]
