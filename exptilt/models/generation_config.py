"""What a checkpoint says of drawing: the tokens that end a text, and a sampler that a run may not use."""

from collections.abc import Iterable
from typing import Any, Final

from exptilt.errors import ModelError
from exptilt.models.loading import config_of, generation_config, load_tokenizer
from exptilt.models.reference import ModelRef

NEUTRAL: Final = {
    "temperature": 1.0,
    "top_k": None,
    "top_p": 1.0,
    "min_p": None,
    "top_h": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "sequence_bias": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
    "min_length": 0,
    "min_new_tokens": None,
    "num_beams": 1,
    "guidance_scale": 1.0,
    "stop_strings": None,
}
SHOWN: Final = 60  # characters of a setting's value


def end_tokens(ref: ModelRef) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The end tokens of the model at `ref`: all of them, of its generation configuration, its configuration
    and its tokenizer; and those that the first names. ModelError where one is no number."""
    config = config_of(ref)
    others = [config.get_text_config().eos_token_id, getattr(config, "eos_token_id", None)]
    try:
        named = _tokens([generation_config(ref).eos_token_id])
        return _tokens([named, *others, load_tokenizer(ref).eos_token_id]), named
    except (TypeError, ValueError) as error:
        raise ModelError(f"base model {ref.name!r}: eos_token_id is no token's number: {error}") from error


def _tokens(found: Iterable[Any]) -> tuple[int, ...]:
    """Token ids, each given alone, in a list, or not at all; sorted."""
    lists = [ids if isinstance(ids, (list, tuple)) else [ids] for ids in found]
    return tuple(sorted({int(token) for ids in lists for token in ids if token is not None}))


def unlike(ref: ModelRef, used: dict[str, Any]) -> str:
    """How the checkpoint's own generation configuration would draw otherwise than with the settings `used`,
    in a few words; empty where it would not."""
    asked = generation_config(ref)
    wanted = {name: getattr(asked, name, None) for name in NEUTRAL}
    return ", ".join(
        f"{name} {str(value)[:SHOWN]}"
        for name, value in wanted.items()
        if value is not None and value != used.get(name, NEUTRAL[name])
    )
