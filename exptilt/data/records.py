"""Files of records with a prompt and a completion, or a pair of these, read some thousands at a time.

The records of one prompt are its samples, in the file's order, so a file is a pool of samples whose p0 is
unknown. A pair is two samples: the chosen one, then the rejected one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import IO, Final

import polars as pl

from exptilt.conversation import as_dicts
from exptilt.conversation import text_of as prompt_text
from exptilt.data import added_columns, beside, completions, pairs, record_files
from exptilt.data.columns import PROMPT
from exptilt.data.completions import COMPLETIONS, MESSAGES, SIDES, Sample
from exptilt.data.conversations import Unusable
from exptilt.data.json_records import Record, text_of
from exptilt.data.record_files import Block
from exptilt.errors import ConfigError, PromptError, StorageError
from exptilt.storage import keys, schemas
from exptilt.wording import by_kind

Read = Callable[[Record], list[Sample]]
Unusables = dict[int, str]  # why records are left out, by number


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


def shape_of(data: str, prompt_column: str, generated_column: str, skip: bool = False) -> Shape:
    """The shape of the files by their first record, which is a pair where it has both sides and no generated
    text; with `skip`, by the first one that holds texts.

    Raises:
        ConfigError: a file cannot be read, or pairs lack a column of prompts that is not called as usual.
        PromptError: the first record holds no texts.
    """
    columns = prompt_column, generated_column
    unusable: Unusables | None = {} if skip else None
    for block in record_files.blocks(data, _known(*columns)):
        for number, record in _numbered(block):
            shape = _shape(record, columns, block.named(number))
            one = block._replace(records=[record], number=number, row=block.row + number - block.number)
            for prompt, _ in _samples(one, _reader(*columns, shape), unusable)[1]:
                return replace(shape, in_chat=not isinstance(prompt, str))
    raise _none_is_left(data, unusable or {})


def _none_is_left(data: str, unusable: Unusables) -> ConfigError:
    return ConfigError(f"--file {data}: every record is left out: {by_kind(unusable.values())}")


def _shape(record: Record, columns: tuple[str, str], named: str) -> Shape:
    prompt_column, generated_column = columns
    is_pair = record.get(generated_column) is None and completions.is_pair(record)
    if is_pair and prompt_column not in record and prompt_column != PROMPT:
        raise ConfigError(f"{named} has no column {prompt_column!r} (--prompt-column)")
    return Shape(sides=SIDES if is_pair else (), has_prompts=prompt_column in record)


def tables(
    data: str,
    prompt_column: str,
    generated_column: str,
    others: Iterable[str] = (),
    shape: Shape = ONE,
    unusable: Unusables | None = None,
) -> Iterator[tuple[Block, pl.DataFrame]]:
    """The records, of these columns and `others` at least, and one row for each sample: place (of its prompt,
    by first appearance), record (its number among all), prompt_id, prompt, messages, reference, sample_index,
    completion.

    Args:
        data: files of records, see record_files.
        prompt_column: holds the prompt.
        generated_column: holds prompt + completion.
        others: more columns that the records must have.
        shape: of the file; a record is one sample, or two where it is a pair.
        unusable: where given, records without texts are left out and entered here: why, by number.

    Raises:
        ConfigError: a file cannot be read, or every record is left out.
        PromptError: a record has no prompt and completion; it is named.
    """
    seen, read, none = keys.Seen(), _reader(prompt_column, generated_column, shape), True
    for block in record_files.blocks(
        data, [*dict.fromkeys([*_known(prompt_column, generated_column), *others])]
    ):
        numbers, samples = _samples(block, read, unusable)
        none = none and not samples
        yield block, _table(samples, seen).with_columns(record=pl.Series(numbers, dtype=pl.Int64))
    if none:
        raise _none_is_left(data, unusable or {})


def _known(prompt_column: str, generated_column: str) -> list[str]:
    """The columns in which texts are looked for, or what would change them."""
    return [prompt_column, generated_column, *COMPLETIONS, *MESSAGES, *SIDES, *beside.COLUMNS]


def _reader(prompt_column: str, generated_column: str, shape: Shape) -> Read:
    """Reads the samples of a record; Unusable where it has none, or more than texts."""

    def read(record: Record) -> list[Sample]:
        if shape.sides:
            samples = pairs.of_record(record, prompt_column, shape.has_prompts)
        else:
            samples = [completions.of_record(record, prompt_column, generated_column)]
        prompt, _ = samples[0]
        if not isinstance(prompt, str):
            beside.check(beside.given(record, prompt_column), prompt, lambda: None)
        return samples

    return read


def _numbered(block: Block) -> Iterator[tuple[int, Record]]:
    return enumerate(block.records, block.number)


def _samples(block: Block, read: Read, unusable: Unusables | None) -> tuple[list[int], list[Sample]]:
    """The samples of the records, and whose they are; PromptError, which names the one that has none."""
    numbers, samples = list[int](), list[Sample]()
    for number, record in _numbered(block):
        try:
            mine = read(record)
        except Unusable as error:
            if unusable is None:
                raise PromptError(f"{block.named(number)} {error}") from None
            unusable[number] = error.kind
            continue
        samples += mine
        numbers += [number] * len(mine)
    return numbers, samples


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
