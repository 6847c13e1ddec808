"""How help shows the flags: the group of each one, in order, and an example of each kind of run."""

from collections.abc import Sequence
from typing import Final

GROUPS: Final = {
    "what": "target file value lam save",
    "model": "basemodel chat chat_template template_options reasoning dtype engine vllm_command",
    "prompts": "data prompt_column system generated_column start end on_long_prompt",
    "drawing": "nsamples temperature top_k top_p max_new_tokens stop seed",
    "tilting": "resampler ndraws refine steer block_tokens min_ess max_nsamples pooled",
    "output": "output export min_margin page_prompts save_directory endpoint_url "
    "push_to push_license push_language push_public",
    "running": "device batch_size shard_size allow_missing runner ray_address",
}
EXAMPLES: Final = {
    "Original": "--basemodel gpt2 --data Imdb",
    "MCAligned": "--lam -0.5 --value humor --nsamples 50",
    "Scoring": "--file texts.json --value humor,diversity",
    "Sweep": "--value humor --lam humor=-1:1:0.25",
    "Palette": "--target humor=+0.1,positive=keep",
}


def of(names: Sequence[str]) -> dict[str, list[str]]:
    """`names` by group; those of no group are in the last."""
    known = [name for listed in GROUPS.values() for name in listed.split()]
    grouped = {title: [name for name in listed.split() if name in names] for title, listed in GROUPS.items()}
    grouped["running"] += [name for name in names if name not in known]
    return {title: found for title, found in grouped.items() if found}


def example(model: type) -> str:
    """The arguments of an example of `model`, those of the class that it extends where it has none."""
    return next(EXAMPLES[each.__name__] for each in model.__mro__ if each.__name__ in EXAMPLES)
