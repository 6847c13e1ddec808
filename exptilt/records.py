"""Files of records with a prompt and a generated text: read, and put into the pool shard by shard.

The records of one prompt are its samples, in the file's order, so a file is a pool of samples whose p0 is
unknown.
"""

from collections import Counter
from pathlib import Path
from typing import Final

import polars as pl

from exptilt import ids, pool, schemas, store, untrusted
from exptilt.errors import ConfigError, PromptError
from exptilt.refs import SamplesRef, ShardRef
from exptilt.stages.tables import read as pool_table
from exptilt.untrusted import Records, is_text

TIDIED: Final = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
UNKNOWN: Final = ("n_tokens", "finish_reason", "logprob", "nll", "seed")


def read(file: str) -> Records:
    """The records of a .json, .jsonl or .parquet file; ConfigError where there are none."""
    try:
        records = READERS[Path(file).suffix.lower()](file)
    except KeyError:
        raise ConfigError(f"--file {file}: must end in {', '.join(READERS)}") from None
    except OSError as error:
        raise ConfigError(f"--file: {error}") from error
    except ValueError as error:
        raise ConfigError(f"--file {file}: cannot be read ({untrusted.first_line(error)})") from error
    if not records:
        raise ConfigError(f"--file {file}: it holds no records")
    return records


def _json(file: str) -> Records:
    return untrusted.records(untrusted.json_value(store.read_bytes(file)))


def _jsonl(file: str) -> Records:
    lines = store.read_bytes(file).split(b"\n")
    return untrusted.records([untrusted.json_value(line) for line in lines if line.strip()])


def _parquet(file: str) -> Records:
    return untrusted.parquet_records(store.read_bytes(file))


READERS: Final = {".json": _json, ".jsonl": _jsonl, ".parquet": _parquet}


def table_of(records: Records, file: str, prompt_column: str, generated_column: str) -> pl.DataFrame:
    """One row per record: prompt_id, prompt, sample_index, completion.

    prompt + completion is the record's text. Where that begins with the prompt only as older decoders tidied
    it (no space before a full stop), the prompt is taken so.
    """
    seen: Counter[str] = Counter()
    rows = []
    for number, record in enumerate(records):
        prompt, text = record.get(prompt_column), record.get(generated_column)
        if isinstance(prompt, str) and isinstance(text, str) and not text.startswith(prompt):
            prompt = _tidied(prompt)
        if not is_text(prompt) or not is_text(text) or not text.startswith(prompt):
            raise PromptError(
                f"--file {file}: record {number} needs {prompt_column!r} and {generated_column!r}, "
                "a text that begins with it"
            )
        rows.append((ids.prompt_id(prompt), prompt, seen[prompt], text[len(prompt) :]))
        seen[prompt] += 1
    return pl.DataFrame(rows, schema=["prompt_id", "prompt", "sample_index", "completion"], orient="row")


def _tidied(text: str) -> str:
    """`text` as clean_up_tokenization_spaces leaves it, which decoding once did by default."""
    for spaced in TIDIED:
        text = text.replace(spaced, spaced.strip())
    return text


def shards(table: pl.DataFrame, file: str, size: int, save_directory: str) -> list[SamplesRef]:
    """The file's texts in the pool, `size` prompts to a shard."""
    prompts = table.unique("prompt_id", maintain_order=True).select("prompt_id", "prompt")
    prompts = prompts.with_row_index("prompt_index").with_columns(source=pl.lit(Path(file).stem))
    parts = list(prompts.iter_slices(size))
    return [_shard(part, table, i, len(parts), file, save_directory) for i, part in enumerate(parts)]


def _shard(
    prompts: pl.DataFrame, table: pl.DataFrame, index: int, of: int, file: str, save_directory: str
) -> SamplesRef:
    prompts = prompts.select(*schemas.PROMPTS).cast(schemas.PROMPTS)
    samples = prompts.select("prompt_id").join(table, on="prompt_id", how="left", maintain_order="left")
    samples = samples.with_columns([pl.lit(None).alias(c) for c in UNKNOWN])
    samples = samples.select(*schemas.SAMPLES).cast(schemas.SAMPLES)
    paths = [put(t, name, file, save_directory) for name, t in (("prompts", prompts), ("samples", samples))]
    key = ids.content_key(prompts["prompt_id"].to_list())
    shard = ShardRef(index=index, of=of, prompts=paths[0], key=key, n_prompts=prompts.height)
    return SamplesRef(shard=shard, parts=(paths[1],), cached=True, tokens=0, seconds=0.0)


def of_shard(samples: SamplesRef, table: pl.DataFrame) -> pl.DataFrame:
    """The rows of `table` that belong to the shard's prompts, in the shard's order."""
    prompts = pool_table(samples.shard.prompts, "prompts").select("prompt_id")
    return prompts.join(table, on="prompt_id", how="left", maintain_order="left")


def put(table: pl.DataFrame, name: str, file: str, save_directory: str) -> str:
    """The pool entry of a table of the file."""
    stage = "prompts" if name == "prompts" else "imported"
    return pool.keep(save_directory, stage, name, table, {"file": Path(file).name})
