"""How this package talks to the Hub, and what can go wrong there, each in one sentence that says what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hf_untangle.errors import HubError, UntangleError

MISSING = (
    "`{repo}` must be on the Hub for {what}, but it is not there, or it is private and you may not see it (404). Check the "
    "name, and log in with `hf auth login` if it is private."
)

NO_XET = (
    "The Hub must take large files in chunks for {what}, but this one has no store for them (404). Set HF_HUB_DISABLE_XET=1 to "
    "send them whole, and run it again."
)
XET_STATUS = re.compile(r"HTTP status \w+ error \((\d{3})")
"""The status in what `hf_xet`, which sends large files in chunks, says; its errors have no field for it."""

BY_KIND: dict[type[Exception], str] = {
    GatedRepoError: "The conditions of `{repo}` must be accepted before {what}. Open its page on the Hub, accept them, log in.",
    RevisionNotFoundError: "The revision must be a branch, tag or commit of `{repo}` for {what}, but it has none with that "
    "name (404). Check the revision.",
    RepositoryNotFoundError: MISSING,
    OfflineModeIsEnabled: "The Hub must be asked for {what}, but HF_HUB_OFFLINE forbids it, and the cache has none. Unset it.",
    LocalEntryNotFoundError: "{what} needs the network or a copy in the cache, but neither is there. Check both, and the name.",
    EntryNotFoundError: "`{repo}` must hold the file for {what}, but it has no file of that name (404). Was it pushed by this "
    "package? Name another file with `filename`.",
    HFValidationError: "`{repo}` must be a folder that exists or a repository of the Hub, such as `user/name`, for {what}.",
}
"""A sentence for every error that says more than its status, the particular before the general."""

BY_STATUS: dict[int, str] = {
    401: "The Hub must know who you are for {what}, but your token is missing or not valid (401). Log in with `hf auth login`, "
    "or pass `token`.",
    403: "Your token must be allowed to write for {what}, but the Hub forbids it (403). Use a token with write access, and a "
    "repository of your own or of an organization that you may write to.",
    404: MISSING,
    409: "Nobody else may write to `{repo}` during {what}, but there was a conflicting commit (409). Run it "
    "again: weights that were uploaded already are not sent twice.",
    429: "The Hub takes only so many requests, and asks to wait{wait} before {what} continues (429). Wait, then run it again: "
    "weights that were uploaded already are not sent twice.",
}
"""A sentence for every status that has a remedy of its own."""

FAILED = "The Hub must answer for {what}, but it failed: {reason}. Check the network, and try again later."


@contextmanager
def clear_problems(what: str, repo: str) -> Iterator[None]:
    """Turn what goes wrong while talking to the Hub into one sentence that says what to do and holds no token.

    Args:
        what: What is being done: `pushing to me/model`.
        repo: The repository.

    Yields:
        Nothing.

    Raises:
        HubError: Something went wrong.
    """
    try:
        yield
    except UntangleError:
        raise
    except Exception as error:  # Which kinds there are depends on the HTTP client that huggingface_hub is built on.
        raise HubError(_template(error).format(what=what, repo=repo, wait=_wait(error), reason=_reason(error))) from error


def _template(error: Exception) -> str:
    """The sentence for an error; what caused it comes first, as it says more than what it was wrapped in."""
    for cause in reversed(_chain(error)):
        for kind, sentence in BY_KIND.items():
            if isinstance(cause, kind):
                return sentence
        if isinstance(cause, HfHubHTTPError):
            return BY_STATUS.get(cause.response.status_code, FAILED)
        if status := XET_STATUS.search(str(cause)):
            return (BY_STATUS | {404: NO_XET}).get(int(status[1]), FAILED)
    return FAILED


def _reason(error: Exception) -> str:
    """The first line of what caused an error."""
    cause = _chain(error)[-1]
    return str(cause).strip().partition("\n")[0] or type(cause).__name__


def _wait(error: Exception) -> str:
    """How long the Hub asks to wait, where it says so."""
    answers = [cause.response for cause in _chain(error) if isinstance(cause, HfHubHTTPError)]
    seconds = answers[0].headers.get("Retry-After") if answers else None
    return f" {seconds} seconds" if seconds else ""


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what led to it, the error itself first."""
    return [error, *(_chain(error.__cause__) if error.__cause__ else [])]


def hub_client(token: str | None) -> HfApi:
    """Make a client that tells the Hub which package asks.

    Args:
        token: What to log in with; the token of `hf auth login` or `HF_TOKEN` when None.

    Returns:
        The client.
    """
    return HfApi(token=token, library_name="hf_untangle", library_version=version("hf-untangle"))
