"""Which reward scores by a spec."""

from exptilt.errors import RewardError
from exptilt.once import once
from exptilt.rewards.base import Reward, RewardSpec


@once
def load(spec: RewardSpec, device: str) -> Reward:
    """The reward of `spec` on `device`, its model loaded once per process.

    Raises ModelError or RewardError, which name the value, where it does not load.
    """
    match spec.kind:
        case "file":
            raise RewardError(f"value {spec.value!r} is known only where {spec.model.name} holds it")
        case "function":
            from exptilt.rewards.function import FunctionReward

            return FunctionReward(spec)
        case "perplexity":
            from exptilt.rewards.perplexity import PerplexityReward

            return PerplexityReward(spec, device)
        case "diversity":
            from exptilt.rewards.diversity import DiversityReward

            return DiversityReward(spec)
        case "coherence":
            from exptilt.rewards.coherence import CoherenceReward

            return CoherenceReward(spec, device)
        case "classifier":
            from exptilt.rewards.classifier import ClassifierReward

            return ClassifierReward(spec, device)
