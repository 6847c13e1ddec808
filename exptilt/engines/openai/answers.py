"""An answer of a server, read: its text, its tokens and their log-probabilities."""

import math
from dataclasses import dataclass
from typing import Any, Final

ID: Final = "token_id:"  # how vLLM writes a token where it is asked for ids in place of texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One completion as a server gave it; what it did not say, or not of each token, is None.

    Attributes:
        text: the completion.
        reasoning: what the server set apart from it.
        finish_reason: in the server's words.
        by_text: whether a stop text ended it, and not an end token.
        n_drawn: tokens drawn, an end token among them.
        tokens: their ids [n_drawn].
        own: their log-probabilities [n_drawn], in nats.
        tops: at each of them, those of the likeliest tokens [n_drawn][any number].
        prompt: those of the prompt's tokens but the first.
    """

    text: str | None
    reasoning: str | None
    finish_reason: str | None
    by_text: bool
    n_drawn: int
    tokens: list[int] | None
    own: list[float] | None
    tops: list[list[float]] | None
    prompt: list[float] | None

    @property
    def ended(self) -> bool:
        """Whether an end token was drawn."""
        return self.finish_reason == "stop" and not self.by_text


def read(said: Any) -> Answer:
    """The answer in a response; ValueError, with its beginning, where there is none in it."""
    try:
        choice, n_drawn = said["choices"][0], int(said["usage"]["completion_tokens"])
        message = choice.get("message") or {"content": choice.get("text")}
        text = message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        raise ValueError(" ".join(str(said).split())[:60]) from None
    tokens, own, tops = _steps(choice.get("logprobs"))
    return Answer(
        text=text,
        reasoning=message.get("reasoning") or message.get("reasoning_content") or None,
        finish_reason=choice.get("finish_reason"),
        by_text=any(isinstance(choice.get(name), str) for name in ("stop_reason", "matched_stop")),
        n_drawn=n_drawn,
        tokens=_of_each(choice.get("token_ids") or _ids(tokens), n_drawn),
        own=_of_each(own, n_drawn) if all(map(_is_finite, own)) else None,
        tops=_of_each(tops, n_drawn) if all(map(_is_numbers, tops)) else None,
        prompt=_prompt(choice.get("prompt_logprobs") or said.get("prompt_logprobs")),
    )


def _of_each(found: list[Any] | None, count: int) -> list[Any] | None:
    """What was said of `count` tokens, if it is of so many."""
    return found if isinstance(found, list) and len(found) == count else None


def _steps(logprobs: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """The drawn tokens, their log-probabilities, and at each those of the likeliest: as chats say them, or
    completions; empty where they are not said so."""
    try:
        return (_of_completion if logprobs.get("content") is None else _of_chat)(logprobs)
    except (AttributeError, KeyError, TypeError):
        return [], [], []


def _of_completion(logprobs: Any) -> tuple[list[Any], list[Any], list[Any]]:
    tops = [list(step.values()) for step in logprobs.get("top_logprobs") or []]
    return logprobs.get("tokens") or [], logprobs.get("token_logprobs") or [], tops


def _of_chat(logprobs: Any) -> tuple[list[Any], list[Any], list[Any]]:
    steps = logprobs["content"]
    tops = [[top["logprob"] for top in step["top_logprobs"]] for step in steps]
    return [step["token"] for step in steps], [step["logprob"] for step in steps], tops


def _ids(tokens: list[Any]) -> list[int] | None:
    """Token ids, where tokens are written as ids."""
    written = all(isinstance(token, str) and token.startswith(ID) for token in tokens)
    return [int(token.removeprefix(ID)) for token in tokens] if tokens and written else None


def _is_finite(found: Any) -> bool:
    return isinstance(found, (int, float)) and math.isfinite(found)


def _is_numbers(found: list[Any]) -> bool:
    """Whether there are some, and each is a number or minus infinity."""
    return bool(found) and all(isinstance(n, (int, float)) and n < math.inf for n in found)


def _prompt(found: Any) -> list[float] | None:
    """The log-probabilities of a prompt's tokens but the first, which has none: of each the first that is
    said, which is the token's own."""
    try:
        own = [next(iter(step.values()))["logprob"] for step in found[1:]]
    except (AttributeError, StopIteration, KeyError, TypeError):
        return None
    return own if all(map(_is_finite, own)) else None
