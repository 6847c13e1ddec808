"""What can go wrong, said once: one base class, each child also the standard type it refines."""

from collections.abc import Mapping, Sequence


class ExptiltError(Exception):
    """Base of every error that exptilt raises on purpose; its text is one line for the user."""


class ConfigError(ExptiltError, ValueError):
    """A setting that cannot be run, known before anything expensive starts."""


class PromptError(ExptiltError, ValueError):
    """A prompt that cannot be used; the text names it."""


class ModelError(ExptiltError, RuntimeError):
    """A model that cannot be found or loaded; the text names it and what to do."""


class ServerError(ExptiltError, ConnectionError):
    """A server that does not answer, or answers that it cannot now: another try may go well."""


class PromptRefused(ExptiltError, ValueError):
    """A server or a model gives nothing for a prompt and may serve the others; the text names the prompt.

    `place` is the prompt's index in the draw, None where that is not known.
    """

    def __init__(self, text: str, place: int | None = None) -> None:
        super().__init__(text)
        self.place = place


class LogitsError(PromptRefused):
    """A model's logits hold NaN or +Inf, or nothing but -Inf: no token can be drawn from them."""


class RewardError(ExptiltError, ValueError):
    """A reward that is not one finite number per sample; names prompt, value and model."""


class DeviceError(ExptiltError, RuntimeError):
    """Every device of the run failed; the text says of what."""


class PaletteError(ExptiltError, ValueError):
    """Targets for which no λ was found although they are within reach; the text says how close it came."""


class StorageError(ExptiltError, OSError):
    """A path that cannot be read or written; the text names it."""


class MissingError(StorageError):
    """A path at which there is nothing."""


class RefusedError(StorageError):
    """A path that stays closed until someone changes something: no space, no permission, no such bucket.

    `reason` is the same for every path that the same cause closes.
    """

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


class PushFailed(ExptiltError, RuntimeError):
    """A data set that is saved and was not put on the Hub; `summary` is its run's, None without one."""

    def __init__(self, text: str, summary: object = None) -> None:
        super().__init__(text)
        self.summary = summary


class ShardsFailed(ExptiltError, RuntimeError):
    """Some shards failed; every other shard is saved and a re-run does only what is missing.

    Attributes:
        shards: the numbers of the shards that failed, by cause.
    """

    def __init__(self, text: str, shards: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(text)
        self.shards = dict(shards or {})


class ShardGivenUp(ExptiltError, RuntimeError):
    """A shard at which processes die, one after the other; the text says what to do."""


class Stopped(ExptiltError, RuntimeError):
    """The user asked the run to stop; finished shards are saved."""
