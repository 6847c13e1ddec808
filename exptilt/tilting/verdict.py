"""The certificate of a tilt: is it sound, strained, or best-of-n in disguise, and what would do better?"""

from typing import Final

LOW_ESS: Final = 2.0
SHORT_SHARE: Final = 0.1
LOW_SHARE: Final = 0.5
SOUND, STRAINED, DISGUISED, NOTHING = "sound", "strained", "best-of-n in disguise", "nothing to choose"
MOST_SAMPLES: Final = 100_000
EXPLAINED: Final = (
    "A prompt is short of samples where it has fewer than exp(KL + s), s the deviation of log p_λ/p0 under "
    "p_λ. Sound: at most a tenth of the prompts are short. Best-of-n in disguise: at more than half of the "
    "prompts the ESS is under 2, so that one sample holds most of the weight and a larger λ would keep the "
    "same completions. Strained: in between."
)


def verdict(n: float, low_share: float, short_share: float) -> str:
    """The verdict in a word.

    Args:
        n: samples per prompt, their median.
        low_share: the share of prompts with a low ESS.
        short_share: the share of prompts that are short of samples.
    """
    if n == 1:
        return NOTHING
    if low_share > LOW_SHARE:
        return DISGUISED
    return STRAINED if short_share > SHORT_SHARE else SOUND


def sentence(word: str, n: int, low_share: float, short_share: float) -> str:
    """The verdict in one line.

    Args:
        word: what `verdict` gives.
        n: samples per prompt.
        low_share: the share of prompts with a low ESS.
        short_share: the share of prompts that are short of samples.
    """
    match word:
        case "sound":
            return f"sound: {n} samples suffice at {1 - short_share:.0%} of the prompts"
        case "strained":
            return f"strained: {n} samples are too few at {short_share:.0%} of the prompts"
        case "best-of-n in disguise":
            share = f"{low_share:.0%} of the prompts"
            return f"best-of-{n} in disguise: at {share} one sample holds most of the weight"
        case _:
            return "nothing to choose: one sample per prompt leaves p0 as it is"


def advice(word: str, n: float, n_needed: float) -> str | None:
    """What to do about a verdict that is not good; None where it is, or more samples would not help.

    Args:
        word: what `verdict` gives.
        n: samples per prompt.
        n_needed: the samples per prompt that are enough at nine prompts in ten.
    """
    if word not in (STRAINED, DISGUISED):
        return None
    if n_needed <= n:
        return "use a smaller --lam"
    if n_needed > MOST_SAMPLES:
        return f"use a smaller --lam: {max(int(n), MOST_SAMPLES):,} samples would not do"
    enough = round_up(n_needed)
    return (
        f"use a smaller --lam, or --nsamples {enough}, enough at nine prompts in ten (those drawn are reused)"
    )


def round_up(number: float) -> int:
    """`number` rounded up to two digits, as a person would ask for."""
    whole = int(number) + 1
    unit = int(10 ** max(len(str(whole)) - 2, 0))
    return -(-whole // unit) * unit
