"""What a value takes of a classifier's logits: one label's logit, probability or log-probability."""

import numpy as np
from scipy.special import log_expit, log_softmax

from exptilt.rewards.base import Rewards, Transform


def transformed(logits: Rewards, label: int, transform: Transform, is_multi_label: bool) -> Rewards:
    """The numbers [S] of S samples, in float64.

    Args:
        logits: of every label, [S, labels].
        label: the column of the label that is meant.
        transform: what is made of its logit.
        is_multi_label: whether its probability is the sigmoid of its logit, else of a softmax over all.
    """
    if transform != "logit":
        logits = log_expit(logits) if is_multi_label else log_softmax(logits, axis=1)
    numbers: Rewards = logits[:, label]
    return np.exp(numbers) if transform == "prob" else numbers
