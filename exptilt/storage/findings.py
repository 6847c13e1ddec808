"""What a plan found out of models and prompts, which later plans of the same run take as it is.

A finding is JSON, and hangs on nothing but what it is of: files by their digests, and settings. A run record
keeps them, so that a run whose tables are all there loads neither torch nor tokenizers.
"""

from collections.abc import Callable
from typing import TypeVar, cast

from exptilt.run import current
from exptilt.storage.keys import content_key

T = TypeVar("T")


def found(name: str, of: object, find: Callable[[], T]) -> T:
    """What `find` gives, asked once for each content of `of`.

    Args:
        name: what is found out.
        of: what it hangs on, as JSON.
        find: gives it, as JSON; an error is raised each time.
    """
    findings, key = current().findings, content_key([name, of])
    if key not in findings:
        findings[key] = find()
    return cast(T, findings[key])
