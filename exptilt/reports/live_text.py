"""How far a configuration is, in words: rows of figures, one line, and the line that stays."""

from collections.abc import Sequence

from exptilt.reports.remaining import left, seconds_left, share_done
from exptilt.reports.standing import Standing
from exptilt.wording import counted, duration


def rows(standing: Standing) -> list[tuple[str, str]]:
    """The figures by their names."""
    found = [("shards", _shards(standing)), ("prompts", _prompts(standing))]
    found.append(("samples", f"{_done(standing):,} of {standing.samples:,}{_origin(standing)}"))
    if standing.facts.draws:
        found.append(("tokens", f"{_drawn_tokens(standing):,}; {_speeds(standing)}"))
    if len(standing.speed) > 1:
        each = (f"{device} {speed:,.0f} tokens/s" for device, speed in standing.speed.items())
        found.append(("devices", ", ".join(each)))
    if standing.at_work:
        found.append(("at work", "; ".join(f"{host}: {_named(at)}" for host, at in standing.at_work.items())))
    return found


def value_rows(standing: Standing) -> list[list[str]]:
    """A row for each value: its name, its mean over the prompts so far, and that of what is kept."""
    return [
        [value, str(level.before.estimate), *([str(level.after.estimate)] if level.after else [])]
        for value, level in standing.levels.items()
    ]


def time_left(standing: Standing) -> str:
    """How long it still takes; what else is the matter where that is not known."""
    if standing.is_done:
        return next((p.beside for p in standing.living() if p.beside), "writing the outputs")
    seconds = seconds_left(standing)
    if seconds is None:
        return "time left not known yet"
    return f"{'at most' if left(standing).is_bound else 'about'} {duration(seconds)} left"


def line(standing: Standing) -> str:
    """All of it in one line, for a log."""
    parts = [f"{standing.done}/{counted(len(standing.facts.prompts), 'shard')}"]
    parts.append(_samples(standing))
    if standing.facts.draws:
        parts += [counted(_drawn_tokens(standing), "token"), _speeds(standing)]
    parts += [" ".join(row[:2]) for row in value_rows(standing)]
    return "; ".join([*parts, *_troubles(standing), time_left(standing)])


def last_line(standing: Standing, seconds: float) -> str:
    """What stays at the terminal, after `seconds` of this process."""
    parts = [f"{standing.done}/{counted(len(standing.facts.prompts), 'shard')} in {duration(seconds)}"]
    parts.append(f"{_samples(standing)}{_origin(standing)}")
    if tokens := _drawn_tokens(standing):
        parts.append(f"{counted(tokens, 'token')} at {_over_the_run(standing):,.0f} tokens/s")
    return "; ".join([*parts, *_troubles(standing)])


def percent(standing: Standing) -> str:
    """The share that is done."""
    return f"{int(100 * share_done(standing))} %"


def _shards(standing: Standing) -> str:
    at_work = {place for places in standing.at_work.values() for place in places}
    begun = at_work | standing.shards.keys()
    counts = {
        "at work": len(at_work),
        "failed": len(standing.failed.keys() - at_work),
        "to do": len(standing.facts.prompts) - len(begun),
    }
    said = [f"{count:,} {what}" for what, count in counts.items() if count]
    return ", ".join([f"{standing.done:,} of {len(standing.facts.prompts):,} done", *said])


def _named(places: Sequence[int]) -> str:
    return ", ".join(f"{place + 1:03d}" for place in places)


def _prompts(standing: Standing) -> str:
    said = f"{standing.prompts_done:,} of {sum(standing.facts.prompts):,} done"
    missing, skipped = standing.total("n_missing"), sum(standing.facts.skipped.values())
    left_out = [f"{missing:,} left out"] if missing else []
    return ", ".join([said, *left_out, *([f"{skipped:,} skipped"] if skipped else [])])


def _samples(standing: Standing) -> str:
    return f"{_done(standing):,} of {counted(standing.samples, 'sample')}"


def _done(standing: Standing) -> int:
    return standing.total("samples") + standing.drawn_at_work + standing.reused_at_work


def _origin(standing: Standing) -> str:
    """Where the samples came from."""
    drawn = standing.total("drawn") + standing.drawn_at_work
    return f": {drawn:,} drawn, {max(_done(standing) - drawn, 0):,} reused" if standing.facts.draws else ""


def _drawn_tokens(standing: Standing) -> int:
    """Those that processes say, or what shards came to since."""
    said = sum(process.tokens for process in standing.processes.values())
    return max(said, standing.total("drawn_tokens"))


def _speeds(standing: Standing) -> str:
    now, over = sum(standing.speed.values()), _over_the_run(standing)
    return f"{now:,.0f} tokens/s now, {over:,.0f} over the run"


def _over_the_run(standing: Standing) -> float:
    """Tokens per second since each process began to compute, of those alive, else of all."""
    processes = list(standing.living()) or list(standing.processes.values())
    return sum(process.tokens / process.seconds for process in processes if process.seconds)


def _troubles(standing: Standing) -> list[str]:
    missing = standing.total("n_missing")
    failed = [f"{counted(len(standing.failed), 'shard')} failed"] if standing.failed else []
    return [*failed, *([f"{counted(missing, 'prompt')} left out"] if missing else [])]
