"""The names that a chat template reads, and the options of a run that it does not read."""

import re
from functools import lru_cache
from typing import Final

from exptilt.conversation import Template
from exptilt.errors import ConfigError

GENERATION: Final = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")  # transformers' own tags, without names
GIVEN: Final = frozenset({"messages", "add_generation_prompt"})  # by the run itself
FUNCTIONS: Final = frozenset({"raise_exception", "strftime_now"})
WORD: Final = re.compile(r"\b[A-Za-z_]\w*\b")


@lru_cache(maxsize=8)
def names_read(text: str) -> frozenset[str]:
    """The variables that a template reads without setting them; all its words where it is not understood."""
    import jinja2
    from jinja2 import meta

    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=False)
    try:
        tree = environment.parse(GENERATION.sub("", text))
        return frozenset(meta.find_undeclared_variables(tree)) - FUNCTIONS
    except jinja2.TemplateError:
        return frozenset(WORD.findall(text))


def check_options(template: Template, text: str) -> None:
    """Raise ConfigError, which lists what there is, for an option that the template `text` does not read."""
    names = names_read(text) - GIVEN
    unread = next((name for name, _ in template.options if name not in names), None)
    if unread is not None:
        raise ConfigError(
            f"--template-options {unread}: the chat template does not read it; it reads "
            f"{', '.join(sorted(names)) or 'no options'}"
        )
