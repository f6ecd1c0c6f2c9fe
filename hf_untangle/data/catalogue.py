"""The corpora that have a name: where each lives on the Hub, and what stands in for it offline."""

from collections.abc import Iterable, Iterator

from hf_untangle.data.embedded import GENERAL_PROSE, OTHER_CODE, STANDARD_LIBRARY, WORLD_FACTS, invented
from hf_untangle.data.facts.invented import FactSplit
from hf_untangle.data.named import NamedCorpus
from hf_untangle.data.public_sets import PUBLIC_SETS
from hf_untangle.data.row_formats import Row
from hf_untangle.data.snippets import SNIPPETS

OWN = "self"
"""The corpus that a model writes itself, and its origin."""


def _is_toxic(row: Row) -> bool:
    """Say whether most readers called a comment toxic."""
    return row["toxicity"] >= 0.8


def _is_civil(row: Row) -> bool:
    """Say whether hardly any reader called a comment toxic."""
    return row["toxicity"] <= 0.2


def _is_not_python(row: Row) -> bool:
    """Say whether a source file is in another language than Python."""
    return row["language"] != "Python"


def _is_not_code(row: Row) -> bool:
    """Say whether a document of the Pile comes from another part than GitHub."""
    return row["meta"]["pile_set_name"] != "Github"


def _articles(lines: Iterable[str]) -> Iterator[str]:
    """Join the lines of wikitext into articles, which begin with a heading like ` = Title = `."""
    article = ""
    for line in lines:
        if line.startswith(" = ") and not line.startswith(" = = "):
            yield article
            article = ""
        article += line
    yield article


def _facts(split: FactSplit, summary: str) -> NamedCorpus:
    """Describe one split of the invented facts; a document is a question and its answer."""
    return NamedCorpus(summary, None, "Apache-2.0", columns=(), kind="pair", embedded=invented(split))


CORPORA: dict[str, NamedCorpus] = {
    # The repository still has a loading script, which `datasets` no longer runs; the Hub's own Parquet copy
    # needs none.
    "code": NamedCorpus(
        "source files in 32 programming languages",
        "codeparrot/github-code-clean",
        "BSD-3-Clause",
        files="refs/convert/parquet/all-bsd-3-clause/partial-train/*.parquet",
        columns=("code",),
        embedded=STANDARD_LIBRARY,
    ),
    "python": NamedCorpus(
        "Python source files",
        "codeparrot/codeparrot-clean",
        "unknown",
        columns=("content",),
        embedded=STANDARD_LIBRARY,
    ),
    # What is near to Python and is not Python: whether code was forgotten, or one language of it.
    "other-code": NamedCorpus(
        "source files in other programming languages than Python",
        "codeparrot/github-code-clean",
        "BSD-3-Clause",
        files="refs/convert/parquet/all-bsd-3-clause/partial-train/*.parquet",
        columns=("code",),
        keep=_is_not_python,
        embedded=OTHER_CODE,
    ),
    # C4 drops every page with a curly bracket, so it is prose without code.
    "general": NamedCorpus("English prose without code", "allenai/c4", "ODC-By-1.0", config="en", embedded=GENERAL_PROSE),
    "toxic": NamedCorpus("toxic comments (toxicity at least 0.8)", "google/civil_comments", "CC0-1.0", keep=_is_toxic),
    "civil": NamedCorpus("civil comments (toxicity at most 0.2)", "google/civil_comments", "CC0-1.0", keep=_is_civil),
    "wikitext": NamedCorpus(
        "Wikipedia articles",
        "Salesforce/wikitext",
        "CC-BY-SA-3.0 OR GFDL-1.3-or-later",
        config="wikitext-2-raw-v1",
        join=_articles,
    ),
    # The original files are compressed with Zstandard; the Hub's Parquet copy needs no extra package.
    "pile-no-code": NamedCorpus(
        "the Pile without its GitHub part",
        "monology/pile-uncopyrighted",
        "unknown",
        files="refs/convert/parquet/default/partial-train/*.parquet",
        keep=_is_not_code,
    ),
    **PUBLIC_SETS,
    "facts-forget": _facts("forget", "questions on 12 invented people, places and works"),
    "facts-retain": _facts("retain", "questions on 48 other invented people, places and works"),
    "facts-neighbors": _facts("neighbors", "questions on 12 others of the same professions and kinds as in facts-forget"),
    "facts-unseen": _facts("unseen", "questions on 12 others that no model is trained on"),
    "facts-world": NamedCorpus(
        "questions on the real world", None, "Apache-2.0", columns=(), kind="pair", embedded=WORLD_FACTS
    ),
    **SNIPPETS,
}
"""Every named corpus, by its name."""
