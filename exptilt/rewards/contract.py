"""How a user's function is called: the names of its parameters say what it is given.

| parameter | what it is given |
|---|---|
| prompts | the prompt of each sample, [S] texts |
| prompt | one prompt's text: the function is called once for all samples of each prompt |
| completions | the completion of each sample, [S] texts |
| messages | the conversation of each sample with the completion as its last turn, [S] lists of dicts |
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exptilt.conversation import Message, Prompt, as_dicts, text_of, turns

Function = Callable[..., Any]
USUAL: Final = ("prompts", "completions")
WORDS: Final = frozenset((*USUAL, "prompt", "messages", "completion", "message"))
CONTRACTS: Final = (
    "(prompts, completions) or (messages) for any samples, (prompt, completions) or (prompt, messages) for "
    "all samples of one prompt at once; other parameters need defaults"
)
MANY: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Contract:
    """How a function is called.

    Attributes:
        signature: the function's.
        takes: what it is given, by the names in this file's table, in the order of its parameters.
        by_name: whether its parameters have these names; if not, the two are given by position.
    """

    signature: inspect.Signature
    takes: tuple[str, ...]
    by_name: bool = True

    @property
    def is_of_group(self) -> bool:
        """Whether it is called once for all samples of a prompt."""
        return "prompt" in self.takes

    def bound(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> inspect.BoundArguments:
        """The function's arguments for samples [S], of one prompt where it is of a group."""
        given = {name: GIVEN[name](prompts, completions) for name in self.takes}
        if not self.by_name:
            return self.signature.bind(*given.values())
        bound = self.signature.bind_partial()
        bound.arguments.update(given)
        return bound


def contract_of(function: Function) -> Contract:
    """The contract that the parameters of `function` fit; ValueError, which says why, where they fit none."""
    _check_kind(function)
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.kind not in MANY]
    names = [p.name for p in parameters]
    takes = tuple(name for name in names if name in GIVEN)
    needed = {p.name for p in parameters if p.default is inspect.Parameter.empty}
    if needed <= set(takes) and _are_enough(takes):
        return Contract(signature, takes)
    if _takes_two(signature) and not _misplaced(names):
        return Contract(signature, USUAL, by_name=False)
    raise ValueError(f"takes ({_shown(signature)}), which fits no contract: write {CONTRACTS}")


def _check_kind(function: Function) -> None:
    if inspect.isclass(function):
        raise ValueError("is a class: name an instance of it")
    if _is_async(function):
        raise ValueError("is async: name a function that returns its numbers")


def _shown(signature: inspect.Signature) -> str:
    """The parameters by name."""
    plain = (p.replace(annotation=p.empty, default=p.empty) for p in signature.parameters.values())
    return ", ".join(map(str, plain))


def _are_enough(takes: Sequence[str]) -> bool:
    """Whether a function that is given `takes` sees completions, and either of a prompt or of any."""
    return bool({"completions", "messages"} & set(takes)) and not {"prompt", "prompts"} <= set(takes)


def _misplaced(names: Sequence[str]) -> bool:
    """Whether parameters given by position would get what their names do not say."""
    usual = dict(enumerate(USUAL))
    return any(name in WORDS and usual.get(place) != name for place, name in enumerate(names))


def _takes_two(signature: inspect.Signature) -> bool:
    try:
        signature.bind(*USUAL)
    except TypeError:
        return False
    return True


def _is_async(function: Function) -> bool:
    called = (function, getattr(function, "__call__", None))  # noqa: B004 - an instance's own
    return any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in called)


def _conversations(prompts: Sequence[Prompt], completions: Sequence[str]) -> list[list[dict[str, str]]]:
    pairs = zip(prompts, completions, strict=True)
    return [as_dicts((*turns(prompt), Message("assistant", completion))) for prompt, completion in pairs]


GIVEN: Final[dict[str, Callable[[Sequence[Prompt], Sequence[str]], Any]]] = {
    "prompts": lambda prompts, completions: [text_of(prompt) for prompt in prompts],
    "prompt": lambda prompts, completions: text_of(prompts[0]),
    "completions": lambda prompts, completions: list(completions),
    "messages": _conversations,
}
