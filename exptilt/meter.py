"""What the steps of a run have computed so far, counted while they go on."""

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Final

LATE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was computed up to a moment.

    Attributes:
        tokens: drawn on each device, those of a draw that goes on among them.
        samples: of draws that are done.
        drawn_tokens: of these samples.
        draw_seconds: that these draws took.
        reused: samples that the pool had.
        rewards: computed.
        score_seconds: that they took.
        seconds: since the first of all this began.
        beside: what is done beside the shards, in words; "" where nothing is.
    """

    tokens: dict[str, int]
    samples: int = 0
    drawn_tokens: int = 0
    draw_seconds: float = 0.0
    reused: int = 0
    rewards: int = 0
    score_seconds: float = 0.0
    seconds: float = 0.0
    beside: str = ""


class Meter:
    """Counts of one run; its threads share it."""

    def __init__(self) -> None:
        self._tokens, self._counts = Counter[str](), Counter[str]()
        self._seconds = {"draw": 0.0, "score": 0.0}
        self._began, self._lock, self._beside = 0.0, Lock(), ""

    def drew(self, device: str, tokens: int) -> None:
        """Count tokens of a draw that goes on."""
        with self._lock:
            self._begin(0.0)
            self._tokens[device] += tokens

    def drawn_on(self, device: str) -> int:
        """The tokens counted on `device`."""
        return self._tokens[device]

    def drawn(self, device: str, since: int, samples: int, tokens: int, seconds: float) -> None:
        """Count a draw that is done.

        Args:
            device: where; one draw at a time goes on there.
            since: what `drawn_on` gave before it.
            samples: that it gave.
            tokens: of these; an engine may have counted them meanwhile, by `drew`.
            seconds: that it took.
        """
        with self._lock:
            self._begin(seconds)
            self._tokens[device] = max(self._tokens[device], since + tokens)
            self._counts.update(samples=samples, tokens=tokens)
            self._seconds["draw"] += seconds

    def extended(self, device: str, since: int, tokens: int) -> None:
        """Count tokens that completions were extended by, which are no samples; arguments as of `drawn`."""
        with self._lock:
            self._begin(0.0)
            self._tokens[device] = max(self._tokens[device], since + tokens)

    def reused(self, samples: int) -> None:
        """Count samples that the pool had."""
        with self._lock:
            self._counts["reused"] += samples

    def scored(self, rewards: int, seconds: float) -> None:
        """Count rewards that were computed."""
        with self._lock:
            self._begin(seconds)
            self._counts["rewards"] += rewards
            self._seconds["score"] += seconds

    @contextmanager
    def beside(self, what: str) -> Iterator[None]:
        """Say what is done beside the shards for the length of the block."""
        self._beside = what
        try:
            yield
        finally:
            self._beside = ""

    def _begin(self, before: float) -> None:
        """Note what began `before` seconds ago."""
        at = time.monotonic() - before
        self._began = min(self._began or at, at)

    def read(self) -> Counts:
        """The counts of now."""
        with self._lock:
            return Counts(
                tokens=dict(self._tokens),
                samples=self._counts["samples"],
                drawn_tokens=self._counts["tokens"],
                draw_seconds=self._seconds["draw"],
                reused=self._counts["reused"],
                rewards=self._counts["rewards"],
                score_seconds=self._seconds["score"],
                seconds=time.monotonic() - self._began if self._began else 0.0,
                beside=self._beside,
            )


class Speed:
    """Tokens per second of late, from what a meter counts."""

    def __init__(self) -> None:
        self._noted = deque[tuple[float, dict[str, int]]]()

    def note(self, tokens: dict[str, int]) -> None:
        """Note the tokens drawn on each device up to now."""
        now = time.monotonic()
        self._noted.append((now, tokens))
        while len(self._noted) > 2 and now - self._noted[1][0] > LATE_SECONDS:
            self._noted.popleft()

    def now(self) -> dict[str, float]:
        """Tokens per second by device, over what was noted in the last LATE_SECONDS."""
        if len(self._noted) < 2:
            return {}
        (began, before), (ended, tokens) = self._noted[0], self._noted[-1]
        return {device: (count - before.get(device, 0)) / (ended - began) for device, count in tokens.items()}
