"""Tables for training, from all samples of a shard with their rewards, or from the completions kept.

weighted: every sample with log_weight = Σ λ r and its weight, normalised per prompt.
pairs: per prompt the sample of largest log weight as chosen, of smallest as rejected (the first of equals),
margin = their difference; a prompt gives no pair where its margin is 0 or under the least margin asked for.
sft: the completions kept. pairs-chat and sft-chat hold the same as messages; pairs and sft write these, too,
and where prompts are conversations these alone. All are as TRL's trainers take them.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

Tables = dict[str, pl.DataFrame]


WRITTEN: Final = {"pairs": ("pairs", "pairs-chat"), "sft": ("sft", "sft-chat")}


def tables(names: Sequence[str], samples: pl.DataFrame, kept: pl.DataFrame, least: float) -> Tables:
    """The tables of the exports `names`; `samples` and `kept` have prompt, completion and log_weight."""
    wanted = {table for name in names for table in WRITTEN.get(name, (name,))}
    if _in_chat(samples):
        wanted -= {"pairs", "sft"}
    made = {
        "weighted": samples if _in_chat(samples) else samples.drop("messages"),
        "sft": kept.select("prompt", "completion"),
        "sft-chat": kept.select(messages=answered("completion")),
    }
    if has_pairs(names):
        found = pairs(samples, least)
        answers = {name: pl.concat_list(_message("assistant", name)) for name in ("chosen", "rejected")}
        made["pairs"] = found.drop("messages")
        made["pairs-chat"] = found.with_columns(prompt=ASKED, **answers).drop("messages")
    return {name: table for name, table in made.items() if name in wanted}


def has_pairs(names: Sequence[str]) -> bool:
    """Whether the exports `names` write preference pairs."""
    return not {"pairs", "pairs-chat"}.isdisjoint(names)


def _in_chat(samples: pl.DataFrame) -> bool:
    """Whether the prompts are conversations."""
    return bool(samples["messages"].is_not_null().any())


def _message(role: str, column: str) -> pl.Expr:
    return pl.struct(role=pl.lit(role), content=pl.col(column))


ASKED: Final = pl.coalesce("messages", pl.concat_list(_message("user", "prompt")))


def answered(column: str) -> pl.Expr:
    """The prompt as messages, with `column` as the assistant's turn behind them."""
    return pl.concat_list(ASKED, pl.concat_list(_message("assistant", column)))


def with_weights(samples: pl.DataFrame, lam: Mapping[str, float]) -> pl.DataFrame:
    """`samples` with log_weight and weight, from one column per value of `lam`."""
    terms = [number * pl.col(value) for value, number in lam.items()]
    log_weight = samples.with_columns(log_weight=pl.sum_horizontal(terms))
    top = (pl.col("log_weight") - pl.col("log_weight").max().over("prompt_id")).exp()
    return log_weight.with_columns(weight=top / top.sum().over("prompt_id"))


def pairs(samples: pl.DataFrame, least: float) -> pl.DataFrame:
    """One preference pair per prompt: prompt, chosen, rejected, their log weights and the margin."""
    score = pl.col("log_weight")
    found = samples.group_by("prompt_id", maintain_order=True).agg(
        pl.col("prompt", "messages").first(),
        chosen=pl.col("completion").get(score.arg_max()),
        rejected=pl.col("completion").get(score.arg_min()),
        score_chosen=score.max(),
        score_rejected=score.min(),
    )
    found = found.with_columns(margin=pl.col("score_chosen") - pl.col("score_rejected")).drop("prompt_id")
    return found.filter((pl.col("margin") > 0) & (pl.col("margin") >= least))
