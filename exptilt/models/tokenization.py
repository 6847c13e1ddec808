"""Texts as a causal language model takes them: token ids behind what opens a text, within its context."""

from collections.abc import Sequence
from typing import Any, Final

POSITIONS: Final = ("max_position_embeddings", "n_positions", "max_seq_len")
COUNTS_FROM_PADDING: Final = ("roberta", "camembert", "mpnet", "longformer", "data2vec", "xmod", "luke")
PROBE: Final = "a"


def encode(tokenizer: Any, texts: Sequence[str], special: bool = True) -> list[list[int]]:
    """Token ids of each text; what the tokenizer puts at a text's end is left out, since the text goes on.

    Args:
        tokenizer: transformers' tokenizer, left as it is.
        texts: [S].
        special: whether each is put behind the tokens that the tokenizer opens a text with; a text that has
            them already gets no second ones.

    Returns:
        Ids [S][*].
    """
    if not texts:
        return []
    rows = _ids(tokenizer, texts, special)
    if not special:
        return rows
    opening, closing = marks(tokenizer)
    return [_opened(row, opening, closing) for row in rows]


def completions(tokenizer: Any, prompts: Sequence[Sequence[int]], new: Sequence[Sequence[int]]) -> list[str]:
    """What the tokens `new` [S][*] add to the decoding of their prompts' [S][*]: some decoders eat a text's
    first space."""
    before, alone = _texts(tokenizer, prompts), _texts(tokenizer, new)
    after = _texts(tokenizer, [[*a, *b] for a, b in zip(prompts, new, strict=True)])
    return [
        whole[len(start) :] if whole.startswith(start) else text
        for start, whole, text in zip(before, after, alone, strict=True)
    ]


def _texts(tokenizer: Any, ids: Sequence[Sequence[int]]) -> list[str]:
    texts: list[str] = tokenizer.batch_decode(
        [list(row) for row in ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return texts


def _ids(tokenizer: Any, texts: Sequence[str], special: bool) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]
    return ids


def marks(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The tokens that the tokenizer puts before and behind a text."""
    (marked,), (plain,) = (_ids(tokenizer, [PROBE], special) for special in (True, False))
    for start in range(len(marked) - len(plain) + 1 if plain else 0):
        if marked[start : start + len(plain)] == plain:
            return marked[:start], marked[start + len(plain) :]
    return [], []


def _opened(row: list[int], opening: list[int], closing: list[int]) -> list[int]:
    start = len(opening) if opening and row[: 2 * len(opening)] == 2 * opening else 0
    end = len(row) - len(closing)
    return row[start:end] if row[end:] == closing else row[start:]


def are_opened(tokenizer: Any, texts: Sequence[str]) -> bool:
    """Whether `encode` gives other tokens than the tokenizer itself: for a text that is opened already,
    and for every text of a tokenizer that closes texts."""
    opening, closing = marks(tokenizer)
    if closing or not opening:
        return bool(closing)
    mark = tokenizer.convert_ids_to_tokens(opening[0])
    suspects = [text for text in texts if mark in text]
    return bool(suspects) and encode(tokenizer, suspects) != _ids(tokenizer, suspects, special=True)


def last_tokens(row: list[int], most: int | None, opening: list[int]) -> list[int]:
    """`row`, if it has at most `most` tokens; else what opens it, and its last tokens.

    Args:
        row: token ids.
        most: how many tokens the model takes, None for any number.
        opening: the ids that open every text.
    """
    if most is None or len(row) <= most:
        return row
    kept = opening if row[: len(opening)] == opening and len(opening) < most else []
    return [*kept, *row[len(row) - most + len(kept) :]]


def positions(config: Any) -> int | None:
    """The most tokens that a model takes by its configuration, None where that does not say."""
    text = config.get_text_config()
    most = next((int(n) for n in (getattr(text, name, None) for name in POSITIONS) if n and n > 0), None)
    if most and any(kind in config.model_type for kind in COUNTS_FROM_PADDING):
        most -= int(text.pad_token_id or 0) + 1
    return most


def embeddings(model: Any) -> int | None:
    """How many tokens the model has embeddings for, None where that cannot be seen."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError):
        return None


def refuse_unknown(model: Any, rows: Sequence[Sequence[int]]) -> None:
    """Raise IndexError for a token that the model has no embedding for, which would end a GPU's process."""
    size = embeddings(model)
    most = max((max(row) for row in rows if row), default=0)
    if size is not None and most >= size:
        raise IndexError(f"token {most} of the tokenizer is beyond the model's {size} embeddings")
