"""The contract of a reward: one finite float64 per sample, r_v(x, y), and a spec that defines it.

Everything in a spec's identity is in the content key of what it scored, and in the manifest.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from exptilt.conversation import PLAIN, Prompt, Template
from exptilt.models.reference import ModelRef
from exptilt.wording import counted

CONVERSATION: Final = ("\n\nHuman: ", " \n\nAssistant:")  # around the prompt of a pair
Rewards = NDArray[np.float64]
Needs = Literal["checkpoint", "base model", "rules", "code", "members", "file", "server"]
Transform = Literal["logit", "prob", "logprob", "expected", "written"]
Form = Literal["text", "pair", "chat", "completion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSpec:
    """What defines a reward.

    `value` is its column, `kind` a name in registry.KINDS; `form` is how a classifier sees a sample:
    `text`, prompt + completion; `pair`, two segments; `chat`, the conversation by the classifier's own
    template, whose digest is `form_template`; `completion` alone; `label` is the number or name of a
    classifier's label ("" for the usual one), or a function's name; `transform` turns its logit into a
    probability or the log of one, that of a label by itself where the model is `multi_label`, and says which
    answer of a judge counts: the one expected by its probabilities, or the one written; `rubric` is what a
    judge is asked; `dtype` is the type that the model computes in; `chat` and `template` are p0's, for
    perplexity. `takes` is what a function is given, where that is not prompts and completions (see
    contract.py); `group` says that a prompt's samples are scored together, so that a reward is one of so
    many (0: of all that a file has); `in_flight` is how many requests a server gets at once (0: as many as
    suit). An ensemble has `members`, a `rule` of tilting.ensemble, its `k`, and
    the name of the `pool` that the constants are of.
    """

    value: str
    kind: str
    model: ModelRef
    form: Form = "text"
    form_template: str = ""
    label: str = ""
    transform: Transform = "logit"
    multi_label: bool = False
    dtype: str = "float32"
    chat: str = ""
    template: Template = PLAIN
    opened: bool = False
    takes: tuple[str, ...] = ()
    group: int | None = None
    in_flight: int = 0
    rubric: str = ""
    members: tuple["Member", ...] = ()
    rule: str = ""
    k: float = 0.0
    pool: str = ""

    @property
    def sources(self) -> tuple["RewardSpec", ...]:
        """What is scored: an ensemble's members, or the reward itself."""
        return tuple(member.spec for member in self.members) or (self,)

    def mapped(self, change: Callable[["RewardSpec"], "RewardSpec"]) -> "RewardSpec":
        """The reward with its sources changed; an ensemble is of a group where a member is."""
        if not self.members:
            return change(self)
        members = tuple(replace(member, spec=change(member.spec)) for member in self.members)
        groups = [member.spec.group for member in members if member.spec.group is not None]
        return replace(self, members=members, group=groups[0] if groups else None)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that changes the number, and nothing else."""
        always = {
            **self.model.identity,
            "kind": self.kind,
            "pair": self.form == "pair",
            "label": self.label,
            "transform": self.transform,
            "dtype": self.dtype,
        }
        where_used = {
            "form": self.form if self.form in ("chat", "completion") else "",
            "form_template": self.form_template,
            "multi_label": self.multi_label,
            "chat": self.chat,
            "opened": self.opened,
            "takes": list(self.takes),
            "rubric": _digest(self.rubric) if self.rubric else "",
            "members": [member.identity for member in self.members],
            "rule": self.rule,
            "k": self.k,
        }
        group = {} if self.group is None else {"group": self.group}
        return {**always, **group, **{name: held for name, held in where_used.items() if held}}

    @property
    def described(self) -> dict[str, Any]:
        """The spec as the manifest records it, without this machine's paths."""
        members = [{**member.spec.described, "mean": member.mean, "sd": member.sd} for member in self.members]
        return {
            "value": self.value,
            "name": self.model.name,
            "form": self.form,
            **self.identity,
            **({"members": members} if members else {}),
            **({"pool": self.pool} if self.pool else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of an ensemble, with the mean and the sd that standardise its rewards."""

    spec: RewardSpec
    mean: float
    sd: float

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that changes the ensemble's number."""
        return {**self.spec.identity, "mean": self.mean, "sd": self.sd}


def together(group: int) -> str:
    """What a reward of a group is of; see RewardSpec.group."""
    return f"each prompt's {counted(group, 'sample') if group else 'samples in the file'} together"


def _digest(text: str) -> str:
    return f"blake2b:{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


class Scored:
    """Rewards [S] of S samples, with how many texts were cut to the model's length, and how many
    were given a forward pass of their own although the engine had seen their logits."""

    __slots__ = ("cut", "recomputed", "rewards")

    def __init__(self, rewards: Rewards, cut: int = 0, recomputed: int = 0) -> None:
        self.rewards, self.cut, self.recomputed = rewards, cut, recomputed


class Reward(Protocol):
    """Scores samples of one value."""

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Scored:
        """Score S samples; where the spec is of a group, they are all samples of one prompt.

        Args:
            prompts: of each sample [S]; what takes texts sees a conversation as a transcript (see
                exptilt.conversation).
            completions: the samples [S], without their prompts.
            nlls: mean NLL of prompt + completion in nats per token [S], None where not known.

        Returns:
            One number per sample [S], and how many texts were cut or computed anew.

        Raises:
            RewardError: a sample cannot be scored.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardKind:
    """A kind of reward as the registry lists it.

    Attributes:
        needs: what makes the number: a checkpoint that the value names, the base model's likelihood, rules
            of the kind's own, the user's code, members of an ensemble, a file that holds it, or a server.
        load: the reward of a spec on a device. Libraries are imported here, not before.
        version: of the rules, in the content key: another one scores anew.
        has_labels: whether a value may choose a label, and its probability.
    """

    needs: Needs
    load: Callable[[RewardSpec, str], Reward]
    version: str = ""
    has_labels: bool = False
