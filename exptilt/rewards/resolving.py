"""From a value as it is written to the spec of its reward in a run: its model, form and label."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from exptilt import demo
from exptilt.conversation import PLAIN, Template
from exptilt.errors import ModelError
from exptilt.models import reference
from exptilt.models.reference import ModelRef
from exptilt.rewards import ensemble_file, labels, rubric
from exptilt.rewards.asked import FUNCTION, Asked
from exptilt.rewards.base import Form, Member, RewardSpec
from exptilt.rewards.catalogue import CATALOGUE, Entry, parse, plugin
from exptilt.rewards.ensemble_file import is_ensemble
from exptilt.rewards.registry import KINDS, needs_of
from exptilt.storage.findings import found


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a value stands beside in a run.

    Attributes:
        base: the base model, which computes in `base_dtype` where a value needs it: the type's name, or what
            finds it.
        dtype: what reward models compute in.
        chat: the digest of the template by which p0 renders prompts, "" where these are texts.
        template: how p0 fills it in.
        in_chat: whether the prompts are conversations.
    """

    base: ModelRef
    base_dtype: str | Callable[[], str]
    dtype: str
    chat: str = ""
    template: Template = PLAIN
    in_chat: bool = False


def resolve(value: str, beside: Beside) -> RewardSpec:
    """The reward that `value` means in a run; ModelError where there is no such model."""
    asked = parse(value)
    if is_ensemble(asked.source):
        return _ensemble(value, asked, beside)
    if FUNCTION.fullmatch(asked.source) or plugin(asked.source):
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
            dtype=beside.base_dtype if isinstance(beside.base_dtype, str) else beside.base_dtype(),
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
    spec = replace(spec, multi_label=_is_multi_label(spec, role))
    return _formed(spec, asked.form or _usual_form(spec, asked, entry, beside))


def _is_multi_label(spec: RewardSpec, role: str) -> bool:
    """What a classifier's configuration adds to its identity; ModelError as labels.checked."""

    def find() -> bool:
        from exptilt.models.loading import classifier_config

        return labels.checked(spec, classifier_config(spec.model, role)).multi_label

    return found("multi-label", [spec.model.identity, spec.label, spec.transform], find)


def _usual_form(spec: RewardSpec, asked: Asked, entry: Entry, beside: Beside) -> Form:
    """The form of a value that says none: chat for the user's own models of conversations, if they can."""
    is_own = asked.source not in CATALOGUE
    return "chat" if is_own and beside.in_chat and has_template(spec) else entry.form


def has_template(spec: RewardSpec) -> bool:
    """Whether the tokenizer of a classifier that is here has a chat template."""
    if not KINDS[spec.kind].has_labels or needs_of(spec) != "checkpoint":
        return False

    def find() -> bool:
        from exptilt.models.loading import load_tokenizer

        return bool(load_tokenizer(spec.model).chat_template)

    return found("has template", spec.model.identity, find)


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
    registered: Any = plugin(asked.source)
    dist = registered.dist
    package = f"{dist.name}-{dist.version}" if dist else registered.value
    return ModelRef(name=asked.source, source=registered.value, revision=package)
