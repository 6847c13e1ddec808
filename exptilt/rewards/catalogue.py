"""Which reward a value's name means: the catalogue, the user's own models, files and packages.

Its source (see asked.py) is a name of the catalogue, a FILE.py:function, a name that an installed package
registers in the entry point group exptilt.rewards, or, with NAME=, a sequence classifier as a Hub id, a
local folder or a server's URL, or the FILE.toml of an ensemble.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final

from exptilt import demo
from exptilt.conversation import PLAIN, Template
from exptilt.errors import ConfigError, ModelError
from exptilt.models import reference
from exptilt.models.reference import ModelRef
from exptilt.rewards import ensemble_file, labels, rubric
from exptilt.rewards.asked import FUNCTION, Asked, parts
from exptilt.rewards.base import Form, Member, RewardSpec
from exptilt.rewards.ensemble_file import is_ensemble
from exptilt.rewards.registry import KINDS, needs_of

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
    if not (function or source in CATALOGUE or is_ensemble(source) or _plugin(source)):
        raise ConfigError(f"unknown value {value!r}: known are {KNOWN}")


def _is_model(asked: Asked) -> bool:
    own = asked.name and not asked.rubric and not is_ensemble(asked.source)
    return bool(own) and not FUNCTION.fullmatch(asked.source) and asked.source not in CATALOGUE


def _plugin(name: str) -> EntryPoint | None:
    return next(iter(entry_points(group=GROUP, name=name)), None)


def expand(values: Sequence[str], basemodel: str, data: str) -> list[str]:
    """`values` with `all` spelled out: what the demo has, else the research code's set for the data."""
    if list(values) != ["all"]:
        return list(values)
    if basemodel == "demo":
        return list(demo.REWARDS)
    return ["positive" if v == "humor" and data == "Imdb" else v for v in ALL]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a value stands beside in a run.

    Attributes:
        base: the base model, which computes in `base_dtype` where a value needs it.
        dtype: what reward models compute in.
        chat: the digest of the template by which p0 renders prompts, "" where these are texts.
        template: how p0 fills it in.
        in_chat: whether the prompts are conversations.
    """

    base: ModelRef
    base_dtype: str
    dtype: str
    chat: str = ""
    template: Template = PLAIN
    in_chat: bool = False


def resolve(value: str, beside: Beside) -> RewardSpec:
    """The reward that `value` means in a run; ModelError where there is no such model."""
    asked = parse(value)
    if is_ensemble(asked.source):
        return _ensemble(value, asked, beside)
    if FUNCTION.fullmatch(asked.source) or _plugin(asked.source):
        name = asked.source.rpartition(":")[2]
        return RewardSpec(value=asked.column, kind="function", model=_code(asked), label=name)
    if asked.is_served:
        return _judge(asked) if asked.rubric else _served(asked, beside)
    entry = CATALOGUE.get(asked.source, Entry(kind="classifier", source=asked.source))
    kind = KINDS[entry.kind]
    if kind.needs == "base model":
        return RewardSpec(
            value=asked.column,
            kind=entry.kind,
            model=beside.base,
            dtype=beside.base_dtype,
            chat=beside.chat,
            template=beside.template,
        )
    if kind.needs == "rules":
        rules = ModelRef(name=entry.kind, source=entry.kind, revision=kind.version)
        return RewardSpec(value=asked.column, kind=entry.kind, model=rules)
    return _with_model(asked, entry, beside)


def _served(asked: Asked, beside: Beside) -> RewardSpec:
    """A classifier behind a server, which is asked only where its one model is not named."""
    return RewardSpec(
        value=asked.column,
        kind="served",
        model=reference.served("", asked.source),
        form=asked.form or ("chat" if beside.in_chat else "text"),
        label=asked.label,
        transform=asked.transform,
        dtype=reference.SERVED,
    )


def _judge(asked: Asked) -> RewardSpec:
    """A judge, which is asked whether it gives probabilities."""
    from exptilt.rewards.answers import named
    from exptilt.rewards.first_tokens import gives

    text = rubric.read(asked.rubric, f"--value {asked.name}: the rubric {asked.rubric}")
    model = reference.served("", asked.source)
    with named(asked.column):
        transform = gives(model.source)
    return RewardSpec(
        value=asked.column,
        kind="judge",
        model=replace(model, name=f"{Path(asked.rubric).name}@{model.source}"),
        transform=transform,
        dtype=reference.SERVED,
        rubric=text,
    )


def _ensemble(value: str, asked: Asked, beside: Beside) -> RewardSpec:
    file = ensemble_file.read(asked.source, value)
    members = tuple(
        Member(spec=resolve(member, beside), mean=mean, sd=sd) for member, (mean, sd) in file.members.items()
    )
    for place, member in enumerate(members):
        for other in members[:place]:
            if other.spec.identity == member.spec.identity:
                raise ModelError(
                    f"value {asked.column!r}: {other.spec.value!r} and {member.spec.value!r} are one member"
                )
    return RewardSpec(
        value=asked.column,
        kind="ensemble",
        model=ModelRef(name=asked.source, source="ensemble", revision="standardised-1"),
        members=members,
        rule=file.rule,
        k=file.k,
        pool=file.pool,
    )


def _with_model(asked: Asked, entry: Entry, beside: Beside) -> RewardSpec:
    of_demo = beside.base.name == "demo" and asked.source in demo.REWARDS
    source = str(demo.REWARDS[asked.source]) if of_demo else entry.source
    role = f"value {asked.column!r}: model"
    has_labels = KINDS[entry.kind].has_labels
    task = "SEQ_CLS" if has_labels else "FEATURE_EXTRACTION"
    spec = RewardSpec(
        value=asked.column,
        kind=entry.kind,
        model=reference.resolve(asked.source if of_demo else source, source, role, task),
        form=entry.form,
        label=asked.label or entry.label,
        transform=asked.transform,
        dtype="float32" if of_demo else beside.dtype,
    )
    if not has_labels:
        return spec
    from exptilt.models.loading import classifier_config

    spec = labels.checked(spec, classifier_config(spec.model, role))
    return _formed(spec, asked.form or _usual_form(spec, asked, entry, beside))


def _usual_form(spec: RewardSpec, asked: Asked, entry: Entry, beside: Beside) -> Form:
    """The form of a value that says none: chat for the user's own models of conversations, if they can."""
    is_own = asked.source not in CATALOGUE
    return "chat" if is_own and beside.in_chat and has_template(spec) else entry.form


def has_template(spec: RewardSpec) -> bool:
    """Whether the tokenizer of a classifier that is here has a chat template."""
    from exptilt.models.loading import load_tokenizer

    is_here = KINDS[spec.kind].has_labels and needs_of(spec) == "checkpoint"
    return is_here and bool(load_tokenizer(spec.model).chat_template)


def _formed(spec: RewardSpec, form: Form) -> RewardSpec:
    """`spec` in that form; ModelError where it is chat and the model has no template."""
    if form != "chat":
        return replace(spec, form=form)
    from exptilt.models import chat_template

    if not has_template(spec):
        raise ModelError(
            f"value {spec.value!r}: the tokenizer of {spec.model.name!r} has no chat template: "
            "use :text or :pair"
        )
    return replace(spec, form=form, form_template=chat_template.digest(spec.model))


def _code(asked: Asked) -> ModelRef:
    """A function as a model: its file's digest, or its package's version, is the revision."""
    function = FUNCTION.fullmatch(asked.source)
    if function:
        text = Path(function["path"]).read_bytes()
        digest = hashlib.blake2b(text, digest_size=16).hexdigest()
        source = f"{Path(function['path']).resolve()}:{function['function']}"
        return ModelRef(name=asked.source, source=source, revision=f"blake2b:{digest}")
    plugin: Any = _plugin(asked.source)
    package = f"{plugin.dist.name}-{plugin.dist.version}" if plugin.dist else plugin.value
    return ModelRef(name=asked.source, source=plugin.value, revision=package)
