"""The rewards that a run's values mean: resolved, checked against the base model, and loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from exptilt import rewards
from exptilt.config.settings import Config, MCAligned
from exptilt.conversation import Template
from exptilt.engines import registry
from exptilt.engines.base import P0
from exptilt.errors import ConfigError, ModelError
from exptilt.models import devices
from exptilt.models.reference import ModelRef
from exptilt.rewards import RewardSpec
from exptilt.stages.workspace import Workspace


def resolve_values(
    values: Sequence[str],
    base: ModelRef,
    device: str,
    dtype: str,
    p0: P0 | None = None,
    in_chat: bool = False,
    n: int = 0,
    in_flight: int = 0,
) -> tuple[RewardSpec, ...]:
    """The rewards of `values`.

    Args:
        values: as --value writes them.
        base: the base model, for perplexity and the demo's values.
        device: where they are computed.
        dtype: auto is what is fast on `device`, and float32 for small base models on a CPU.
        p0: that of the run, None where texts are scored that are there.
        in_chat: whether these are conversations.
        n: samples of each prompt; 0 for all that a file has.
        in_flight: requests to a server at once, see RewardSpec.

    Raises:
        ModelError: a reward model is not found, or the base model's engine gives no likelihood that a value
            needs; where it is found only by asking, the trial says so.
        RewardError: a function does not load, or its parameters fit no contract.
    """
    beside = _beside(base, device, dtype, p0, in_chat)
    specs = tuple(rewards.resolve(value, beside) for value in values)
    can = registry.capabilities(base)
    if not (can.gives_likelihood or (p0 and can.finds_likelihood)):
        _check_no_likelihood(dict(zip(values, specs, strict=True)), base)

    def ready(source: RewardSpec) -> RewardSpec:
        served = rewards.needs_of(source) == "server"
        return rewards.by_contract(replace(source, in_flight=in_flight if served else 0), n)

    return tuple(spec.mapped(ready) for spec in specs)


def _beside(base: ModelRef, device: str, dtype: str, p0: P0 | None, in_chat: bool) -> rewards.Beside:
    return rewards.Beside(
        base=base,
        base_dtype=p0.dtype if p0 else lambda: registry.dtype_of(base, device, dtype),
        dtype=devices.reward_dtype(device, dtype),
        chat=p0.chat if p0 else "",
        template=p0.template if p0 else Template(),
        in_chat=bool(p0.chat) if p0 else in_chat,
    )


def _check_no_likelihood(specs: Mapping[str, RewardSpec], base: ModelRef) -> None:
    """Raise ModelError where a value needs the likelihood of `base`, which its engine does not give."""
    for value, spec in specs.items():
        needing = [member.kind for member in spec.sources if rewards.needs_of(member) == "base model"]
        if needing:
            raise ModelError(
                f"--value {value}: {needing[0]} needs the model's logits, which {base.name} does not give"
            )


def check_top_up(config: Config, specs: Sequence[RewardSpec]) -> None:
    """Raise ConfigError where a run would draw more samples of some prompts beside a value of a group."""
    grouped = next((spec for spec in specs if spec.group), None)
    if isinstance(config, MCAligned) and config.min_ess and grouped:
        raise ConfigError(
            f"--min-ess draws more samples for some prompts, but value {grouped.value!r} is of "
            f"{rewards.together(config.nsamples)}: leave --min-ess out, and raise --nsamples"
        )


def check_refine(config: Config, p0: P0, specs: Sequence[RewardSpec]) -> None:
    """Raise ConfigError where a run would move draws that cannot be continued, or whose reward is not of the
    prompt and the completion alone."""
    if isinstance(config, MCAligned) and config.refine:
        _check_continues(p0)
        _check_of_one(config, specs)


def _check_continues(p0: P0) -> None:
    if not registry.capabilities(p0.model).continues:
        raise ConfigError(
            f"--refine draws the rest of completions from the ids of their first tokens, which "
            f"{p0.model.name} does not take from here: draw by transformers or --engine vllm (a Hub id or a "
            "folder as --basemodel), or leave --refine out"
        )
    if p0.vllm and p0.stop:
        raise ConfigError(
            "--refine with --engine vllm takes no --stop: vLLM does not see one that begins in what is kept "
            "of a completion; draw by transformers, or leave --stop out"
        )


def _check_of_one(config: MCAligned, specs: Sequence[RewardSpec]) -> None:
    judged = [m.kind for spec in specs for m in spec.sources if rewards.needs_of(m) == "base model"]
    if config.steer and judged:
        raise ConfigError(
            f"--steer scores beginnings of completions, which have no {judged[0]}: leave it out"
        )
    grouped = next((spec for spec in specs if spec.group is not None), None)
    if grouped:
        raise ConfigError(
            f"--refine needs rewards of one completion, but value {grouped.value!r} is of "
            f"{rewards.together(config.nsamples)}: leave the value out, or --refine"
        )


def to_load(
    specs: Sequence[RewardSpec], workspace: Workspace, parts: Sequence[str]
) -> tuple[RewardSpec, ...]:
    """The values that must be at hand to score the samples in the entries `parts`: the pool lacks rewards."""
    from exptilt.stages.score import is_scored

    return tuple(spec for spec in sources(specs) if not is_scored(workspace, parts, spec))


def load_rewards(specs: Sequence[RewardSpec], device: str) -> None:
    """Load every reward model, so that one that does not load stops the run before it draws."""
    for spec in sources(specs):
        rewards.load(spec, device)


def sources(specs: Sequence[RewardSpec]) -> list[RewardSpec]:
    """What is scored for `specs`, the members of ensembles in their place."""
    return [source for spec in specs for source in spec.sources]
