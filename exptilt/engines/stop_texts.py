"""Stop texts: a completion ends before the first of them."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from exptilt.models.tokenization import PROBE, encode

MARGIN: Final = 16  # tokens that show no character may stand within a stop text


def before_stop(text: str, stop: Sequence[str]) -> str:
    """What stands in `text` before the first stop text; all of it where there is none."""
    places = [place for place in (text.find(end) for end in stop) if place >= 0]
    return text[: min(places, default=len(text))]


def stop_finder(tokenizer: Any, stop: Sequence[str]) -> Callable[[Any], Any] | None:
    """A function that says of tokens [R, steps] which rows' last tokens complete a stop text; None without
    any."""
    if not stop:
        return None
    window = max(len(text.encode()) for text in stop) + MARGIN  # a token may hold a single byte
    before = encode(tokenizer, [PROBE], special=False)[0]  # some decoders eat a text's first space

    def shown(rows: list[list[int]]) -> list[str]:
        texts: list[str] = tokenizer.batch_decode(
            [before + row for row in rows], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return texts

    (start,) = shown([[]])

    def stopped(tokens: Any) -> Any:
        texts = [text.removeprefix(start) for text in shown(tokens[:, -window:].tolist())]
        found = [any(end in text for end in stop) for text in texts]
        return tokens.new_tensor(found, dtype=bool)

    return stopped
