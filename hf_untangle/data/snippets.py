"""Rated snippets of films, products, editorials and tweets, which lie in the source package of vaderSentiment on PyPI.

A user who wants them downloads that package (2.5 MB); nothing here does. Ratings are means of twenty people, from -4 to 4
(Hutto and Gilbert 2014). The package is under the MIT license; the snippets are short excerpts of what others wrote.
"""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from hf_untangle.data.embedded import Embedded
from hf_untangle.data.named import NamedCorpus
from hf_untangle.errors import CorpusError
from hf_untangle.folders import cache_folder

PACKAGE = "vaderSentiment-3.3.2.tar.gz"
INNER = "additional_resources/hutto_ICWSM_2014.tar.gz"
"""The archive in the package that holds the snippets."""
INNER_SHA256 = "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"
FILES = {"films": "movieReview", "products": "amazonReview", "editorials": "nytEditorial", "tweets": "tweets"}
"""The beginning of the file of every kind of snippet."""
STRONG = 1.0
"""The mean rating from which on a snippet counts as positive, and from whose negative on as negative."""


def archive() -> Path:
    """Say where the package is looked for.

    Returns:
        A file in the cache, whether it is there or not.
    """
    return cache_folder() / "packages" / PACKAGE


def snippets(kind: str | None = None, keep: Callable[[float], bool] | None = None) -> Iterator[str]:
    """Read snippets.

    Args:
        kind: A key of `FILES`; all of them when None.
        keep: Which mean ratings to take; all of them when None.

    Yields:
        One sentence or two each.

    Raises:
        CorpusError: The package was not downloaded, or holds something else.
    """
    with tarfile.open(fileobj=io.BytesIO(_inner())) as opened:
        members = {Path(one.name).name: one for one in opened.getmembers() if one.isfile()}
        for name in FILES if kind is None else (kind,):
            begins = FILES[name]
            file = next(one for title, one in members.items() if title.startswith(begins) and title.endswith("GroundTruth.txt"))
            content = opened.extractfile(file)
            assert content is not None
            for line in content.read().decode("utf-8", errors="replace").splitlines():
                _, rating, text = line.split("\t", 2)
                if keep is None or keep(float(rating)):
                    yield text.strip()


def _inner() -> bytes:
    """The archive in the package, once it is the one that is known."""
    path = archive()
    command = f"pip download --no-deps --no-binary :all: vaderSentiment==3.3.2 -d {path.parent}"
    if not path.is_file():
        raise CorpusError(f"The snippets lie in the source package of vaderSentiment, which is not at {path}: run `{command}`.")
    try:
        with tarfile.open(path) as package:
            content = package.extractfile(f"{PACKAGE.removesuffix('.tar.gz')}/{INNER}")
            found = b"" if content is None else content.read()
    except (tarfile.TarError, KeyError, OSError, EOFError):
        found = b""
    if hashlib.sha256(found).hexdigest() != INNER_SHA256:
        raise CorpusError(
            f"{path} must be the source package of vaderSentiment 3.3.2, but it is not. Delete it, and run `{command}`."
        )
    return found


def _named(summary: str, read: Callable[[], Iterator[str]]) -> NamedCorpus:
    """Describe snippets of one kind."""
    source = Embedded("source package of vaderSentiment 3.3.2", "MIT", read)
    return NamedCorpus(f"{summary} (after a download from PyPI)", None, "MIT", embedded=source)


SNIPPETS: dict[str, NamedCorpus] = {
    **{f"snippets-{kind}": _named(f"rated sentences on {kind}", partial(snippets, kind)) for kind in ("films", "products")},
    "snippets-editorials": _named("rated sentences of newspaper editorials", partial(snippets, "editorials")),
    "snippets-tweets": _named("rated tweets", partial(snippets, "tweets")),
    "snippets-positive": _named(
        "sentences of all kinds rated 1 to 4", partial(snippets, None, lambda rating: rating >= STRONG)
    ),
    "snippets-negative": _named(
        "sentences of all kinds rated -4 to -1", partial(snippets, None, lambda rating: rating <= -STRONG)
    ),
}
"""The snippets by kind and by rating."""
