"""Files of records with a prompt and a completion, or a pair of these, read some thousands at a time.

The records of one prompt are its samples, in the file's order, so a file is a pool of samples whose p0 is
unknown. A pair is two samples: the chosen one, then the rejected one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import IO, Final

import polars as pl

from exptilt.conversation import as_dicts
from exptilt.conversation import text_of as prompt_text
from exptilt.data import added_columns, completions, files, pairs
from exptilt.data.columns import PROMPT
from exptilt.data.completions import COMPLETIONS, MESSAGES, SIDES, Sample
from exptilt.data.conversations import Unusable
from exptilt.data.json_records import Record, text_of
from exptilt.errors import ConfigError, PromptError, StorageError
from exptilt.storage import keys, schemas

Blocks = Iterator[list[Record]]
Read = Callable[[Record], list[Sample]]


def blocks(file: str, columns: list[str] | None = None) -> Blocks:
    """The records of a .json, .jsonl or .parquet file, of `columns` at least; ConfigError without any."""
    found = files.records(file, columns)
    return iter(lambda: list(islice(found, keys.BLOCK)), [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the records of a file are, as the first one is.

    Attributes:
        sides: the columns of a pair's completions, none where a record has one completion.
        has_prompts: whether there is a column of prompts.
        in_chat: whether the prompts are conversations.
    """

    sides: tuple[str, ...] = ()
    has_prompts: bool = True
    in_chat: bool = False

    @property
    def samples(self) -> int:
        """The samples of a record."""
        return len(self.sides) or 1

    @property
    def splits_texts(self) -> bool:
        """Whether a prompt has to be found in the two texts of each pair."""
        return bool(self.sides) and not (self.has_prompts or self.in_chat)

    def columns(self, values: Iterable[str]) -> list[str]:
        """The columns that values fill: a value's name, or for pairs NAME_chosen and NAME_rejected."""
        endings = [f"_{side}" for side in self.sides] or [""]
        return [f"{value}{ending}" for value in values for ending in endings]


ONE: Final = Shape()


def shape_of(file: str, prompt_column: str, generated_column: str) -> Shape:
    """The shape of `file` by its first record, which is a pair where it has both sides and no generated text.

    Raises:
        ConfigError: the file cannot be read, or pairs lack a column of prompts that is not called as usual.
        PromptError: the first record holds no texts.
    """
    first = next(blocks(file, _known(prompt_column, generated_column)))[0]
    is_pair = first.get(generated_column) is None and completions.is_pair(first)
    shape = Shape(sides=SIDES if is_pair else (), has_prompts=prompt_column in first)
    if is_pair and not shape.has_prompts and prompt_column != PROMPT:
        raise ConfigError(f"--file {file}: record 0 has no column {prompt_column!r} (--prompt-column)")
    (prompt, _), *_ = _samples([first], 0, file, _reader(prompt_column, generated_column, shape))
    return replace(shape, in_chat=not isinstance(prompt, str))


def tables(
    file: str, prompt_column: str, generated_column: str, others: Iterable[str] = (), shape: Shape = ONE
) -> Iterator[tuple[list[Record], pl.DataFrame]]:
    """The records, of these columns and `others` at least, and one row for each sample: place (of its prompt,
    by first appearance), prompt_id, prompt, messages, reference, sample_index, completion.

    Args:
        file: a .json, .jsonl or .parquet file.
        prompt_column: holds the prompt.
        generated_column: holds prompt + completion.
        others: more columns that the records must have.
        shape: of the file; a record is one sample, or two where it is a pair.

    Raises:
        ConfigError: the file cannot be read.
        PromptError: a record has no prompt and completion; it is named.
    """
    seen, first, read = keys.Seen(), 0, _reader(prompt_column, generated_column, shape)
    for block in blocks(file, [*dict.fromkeys([*_known(prompt_column, generated_column), *others])]):
        yield block, _table(_samples(block, first, file, read), seen)
        first += len(block)


def _known(prompt_column: str, generated_column: str) -> list[str]:
    """The columns in which texts are looked for."""
    return [prompt_column, generated_column, *COMPLETIONS, *MESSAGES, *SIDES]


def _reader(prompt_column: str, generated_column: str, shape: Shape) -> Read:
    if shape.sides:
        return lambda record: pairs.of_record(record, prompt_column, shape.has_prompts)
    return lambda record: [completions.of_record(record, prompt_column, generated_column)]


def _samples(block: Sequence[Record], first: int, file: str, read: Read) -> list[Sample]:
    """The samples of the records; PromptError, which names the one that has no such texts."""
    samples: list[Sample] = []
    for number, record in enumerate(block, first):
        try:
            samples += read(record)
        except Unusable as error:
            raise PromptError(f"--file {file}: record {number} {error}") from None
    return samples


def _table(samples: Sequence[Sample], seen: keys.Seen) -> pl.DataFrame:
    prompts = [prompt for prompt, _ in samples]
    names = [keys.prompt_id(prompt) for prompt in prompts]
    places, repetitions = seen.enter(names)
    messages = [None if isinstance(prompt, str) else as_dicts(prompt) for prompt in prompts]
    return pl.DataFrame(
        {
            "place": places,
            "prompt_id": names,
            "prompt": [prompt_text(prompt) for prompt in prompts],
            "messages": pl.Series(messages, dtype=schemas.MESSAGES),
            "reference": pl.Series([None] * len(samples), dtype=pl.String),
            "sample_index": repetitions,
            "completion": [completion for _, completion in samples],
        }
    )


def write_json(f: IO[bytes], records: Iterable[Record]) -> None:
    """A JSON array, indented by 4, written record by record; StorageError at a NaN or an infinity."""
    f.writelines(added_columns.array(map(_indented, records, count())))


def _indented(record: Record, number: int) -> str:
    try:
        return text_of(record, number, indent=4).replace("\n", "\n    ")
    except ValueError as error:
        raise StorageError(f"cannot be written: {error}") from error
