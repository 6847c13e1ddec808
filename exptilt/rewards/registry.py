"""Which kinds of reward there are, what each needs, and which one scores by a spec."""

from typing import Final

from exptilt.errors import RewardError
from exptilt.rewards.base import Needs, Reward, RewardKind, RewardSpec
from exptilt.rewards.ensemble_file import WITH_K
from exptilt.shared import shared


def _classifier(spec: RewardSpec, device: str) -> Reward:
    from exptilt.rewards.classifier import ClassifierReward

    return ClassifierReward(spec, device)


def _coherence(spec: RewardSpec, device: str) -> Reward:
    from exptilt.rewards.coherence import CoherenceReward

    return CoherenceReward(spec, device)


def _diversity(spec: RewardSpec, device: str) -> Reward:
    from exptilt.rewards.diversity import DiversityReward

    return DiversityReward(spec)


def _perplexity(spec: RewardSpec, device: str) -> Reward:
    from exptilt.rewards.perplexity import PerplexityReward

    return PerplexityReward(spec, device)


def _function(spec: RewardSpec, device: str) -> Reward:
    from exptilt.rewards.function import FunctionReward

    return FunctionReward(spec)


def _file(spec: RewardSpec, device: str) -> Reward:
    raise RewardError(f"value {spec.value!r} is known only where {spec.model.name} holds it")


def _served(spec: RewardSpec, device: str) -> Reward:
    from exptilt.rewards.served import ServedReward

    return ServedReward(spec)


def _judge(spec: RewardSpec, device: str) -> Reward:
    from exptilt.rewards.judge import JudgeReward

    return JudgeReward(spec)


def _ensemble(spec: RewardSpec, device: str) -> Reward:
    raise RewardError(f"value {spec.value!r} is known where its members are scored")


KINDS: Final[dict[str, RewardKind]] = {
    "classifier": RewardKind(needs="checkpoint", load=_classifier, has_labels=True),
    "coherence": RewardKind(needs="checkpoint", load=_coherence),
    "diversity": RewardKind(needs="rules", load=_diversity, version="words-1"),
    "perplexity": RewardKind(needs="base model", load=_perplexity),
    "function": RewardKind(needs="code", load=_function),
    "served": RewardKind(needs="server", load=_served, has_labels=True),
    "judge": RewardKind(needs="server", load=_judge),
    "ensemble": RewardKind(needs="members", load=_ensemble),
    "file": RewardKind(needs="file", load=_file),
}


def manner(spec: RewardSpec) -> str:
    """How `spec` sees a sample, where it may be chosen, and that it is not computed here; an ensemble's rule
    and members; "" of others."""
    if spec.members:
        return _combination(spec)
    form = str(spec.form) if KINDS[spec.kind].has_labels else ""
    form = f"the {spec.transform} answer of a judge" if spec.kind == "judge" else form
    by = "by a server" if needs_of(spec) == "server" else ""
    return ", ".join(part for part in (form, by) if part)


def _combination(spec: RewardSpec) -> str:
    k = f", k = {spec.k:g}," if spec.rule == WITH_K else ""
    members = [f"{s.value} ({how})" if (how := manner(s)) else s.value for s in spec.sources]
    return f"{spec.rule}{k} of {', '.join(members)}"


def needs_of(spec: RewardSpec) -> Needs:
    """What makes the numbers of `spec`."""
    return KINDS[spec.kind].needs


def by_contract(spec: RewardSpec, n: int) -> RewardSpec:
    """`spec` with what the parameters of its function ask for, where it is of one; errors as load.

    Args:
        spec: of any kind.
        n: samples of each prompt; 0 for all that a file has.
    """
    if needs_of(spec) != "code":
        return spec
    from exptilt.rewards import function

    return function.by_contract(spec, n)


@shared
def load(spec: RewardSpec, device: str) -> Reward:
    """The reward of `spec` on `device`, one for all runs that score so.

    Raises ModelError or RewardError, which name the value, where it does not load.
    """
    return KINDS[spec.kind].load(spec, device)
