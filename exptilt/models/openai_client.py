"""The client of a server with the OpenAI API: its connection, and its failures in one line."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, Final

from exptilt.errors import ExptiltError, ModelError, ServerError

try:
    import openai
except ImportError as missing:
    raise ModelError('a model behind a server needs: pip install "exptilt[openai]"') from missing

OPENAI: Final = "an OpenAI API"
SECONDS: Final = 600.0
UNKNOWN_PARAMETER: Final = (openai.BadRequestError, openai.UnprocessableEntityError)
NO_SUCH_ROUTE: Final = openai.NotFoundError
ABOUT_THE_PROMPT: Final = (400, 413, 422)  # where another prompt is answered: too long, not let through


def _key() -> str:
    return os.environ.get("OPENAI_API_KEY", "").strip() or "no-key"


def connect(root: str, key: str = "") -> Any:
    """A client that tries twice, as suits the first requests.

    Args:
        root: the API's address.
        key: of a server that this run started, which no proxy lies before; that of the environment if empty.
    """
    own = {"http_client": openai.DefaultHttpxClient(trust_env=False)} if key else {}
    return openai.OpenAI(base_url=root, api_key=key or _key(), timeout=SECONDS, max_retries=1, **own)


def only_model(root: str) -> str:
    """The one model that the server at `root` has; ModelError that names them where there are more."""
    with explained(root, f"the question which models it has (or name one: {root}#MODEL)"):
        found = [model.id for model in getattr(connect(root).models.list(), "data", None) or []]
    if len(found) != 1:
        raise ModelError(f"{root} has the models {', '.join(found) or '(none listed)'}: write {root}#MODEL")
    return str(found[0])


@contextlib.contextmanager
def explained(
    name: str, what: str, own: Callable[[str], ExptiltError] = ModelError, api: str = OPENAI
) -> Iterator[None]:
    """Raise what a request fails with as one line: ServerError where it may pass, `own` where the prompt may
    be the cause, ModelError else.

    Args:
        name: the server's.
        what: the request is about.
        own: makes the error that a prompt may be the cause of.
        api: what the server was asked by.
    """
    try:
        yield
    except openai.APIStatusError as error:
        later = error.status_code in (408, 409, 429) or error.status_code >= 500
        refused = own if error.status_code in ABOUT_THE_PROMPT else ModelError
        said = f"{name} {'fails at' if later else 'refuses'} {what}: {error.status_code} {words(error)}"
        raise (ServerError if later else refused)(said) from None
    except openai.APIConnectionError as error:
        said = f"{type(error).__name__}: {_plain(error.__cause__ or error)}"
        raise ServerError(f"{name} does not answer {what} ({said})") from None
    except (openai.OpenAIError, ValueError) as error:
        raise own(f"{name} does not answer {what} as {api} does: {_plain(error)}") from None


def words(error: Any) -> str:
    """What a request is refused with, in the server's own words, in one line."""
    body = error.body
    said = (body.get("message") or body.get("detail") or body) if isinstance(body, dict) else body or error
    return _plain(said)


def _plain(said: Any) -> str:
    """In one line, not too long, and without the key."""
    return " ".join(str(said).replace(_key(), "***").split())[:300]
