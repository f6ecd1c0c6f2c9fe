"""TOFU, MUSE and WMDP by name, read from files of the shape that the Hub has; and rated snippets from a package."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from public_hub import CHOICES

from hf_untangle.data import snippets
from hf_untangle.data.corpora import corpus
from hf_untangle.data.documents import Pair, as_document
from hf_untangle.data.public_sets import PUBLIC_SETS
from hf_untangle.data.questions import questions
from hf_untangle.errors import CorpusError


@pytest.fixture
def hub(public_hub) -> list[tuple]:
    """A Hub with the public sets, and what was opened there."""
    return public_hub


@pytest.mark.parametrize("name", PUBLIC_SETS)
def test_every_public_set_is_read_by_name(hub, name):
    documents = [as_document(one).content for one in corpus(name).read()]
    assert len(documents) == 2
    kind = PUBLIC_SETS[name].kind
    assert all(isinstance(one, Pair if kind == "pair" else str) for one in documents)
    assert hub[0][0] == PUBLIC_SETS[name].repository


def test_questions_of_tofu_come_with_paraphrases_and_wrong_answers(hub):
    (first, _) = questions("tofu-forget10-perturbed")
    assert (first.answer, first.paraphrase, first.wrong) == ("In Oslo.", "Oslo keeps it.", ("In Rome.", "In Bern."))
    (world, _) = questions("tofu-world-facts")
    assert (world.paraphrase, len(world.wrong)) == (None, 2)
    assert {call[1] for call in hub} == {"forget10_perturbed", "world_facts_perturbed"}


def test_beginnings_of_muse_go_on_as_in_the_text(hub):
    (first, _) = questions("muse-news-verbatim")
    assert (first.prompt, first.answer) == ("It was", "night.")
    assert hub[0] == ("muse-bench/MUSE-News", "verbmem", "forget", None)
    questions("muse-books-retain-examples")
    assert hub[-1] == ("muse-bench/MUSE-Books", "knowmem", "retain_qa_icl", None)


@pytest.mark.parametrize(
    "name", ["wmdp-bio", "wmdp-cyber", "wmdp-chem", "wmdp-bio-robust", "wmdp-bio-shortcut", "wmdp-bio-cloze"]
)
def test_answers_of_wmdp_are_numbers_of_choices_or_numbers_as_text(hub, name):
    (first, _) = questions(name)
    assert (first.prompt, first.answer, len(first.choices)) == ("Which gas?", "xenon", 4)
    assert as_document(next(corpus(name).read())).content == Pair("Which gas?", "xenon", joined=True)


def test_the_robust_split_is_read_from_the_parquet_copy_of_all_topics(hub):
    questions("wmdp-bio-robust")
    assert hub[0][3] == {"robust": "hf://datasets/EleutherAI/wmdp_bio_robust_mcqa@refs/convert/parquet/*/robust/*.parquet"}


def test_an_answer_that_is_the_number_of_no_choice_is_refused():
    with pytest.raises(CorpusError, match="must be the number of one of the choices"):
        list(corpus([CHOICES | {"answer": 1}] * 100 + [CHOICES | {"answer": 7}]).read())


RATED = {
    "movieReviewSnippets": "1\t2.5\tA joy.\n2\t-0.2\tA film.\n",
    "amazonReviewSnippets": "1_1\t-1.5\tit broke .\n",
    "nytEditorialSnippets": "1_1\t0.4\tThe city plans a race.\n",
    "tweets": "1\t-3.1\tWorst day\there\n",
}


@pytest.fixture
def package(cache, monkeypatch) -> Path:
    """A source package of the shape of vaderSentiment's, in the cache."""
    inner = _archive({f"hutto_ICWSM_2014/{name}_GroundTruth.txt": text for name, text in RATED.items()})
    path = snippets.archive()
    path.parent.mkdir(parents=True)
    path.write_bytes(_archive({f"vaderSentiment-3.3.2/{snippets.INNER}": inner}))
    monkeypatch.setattr(snippets, "INNER_SHA256", hashlib.sha256(inner).hexdigest())
    return path


def test_snippets_are_read_by_kind_and_by_rating(package):
    texts = {name: list(_texts(name)) for name in snippets.SNIPPETS}
    assert texts["snippets-films"] == ["A joy.", "A film."]
    assert texts["snippets-products"] == ["it broke ."]
    assert texts["snippets-editorials"] == ["The city plans a race."]
    assert texts["snippets-tweets"] == ["Worst day\there"]
    assert texts["snippets-positive"] == ["A joy."]
    assert texts["snippets-negative"] == ["it broke .", "Worst day\there"]


def test_without_the_package_the_command_that_downloads_it_is_said(cache):
    with pytest.raises(CorpusError, match="run `pip download --no-deps --no-binary :all: vaderSentiment==3.3.2 -d .*packages`"):
        list(_texts("snippets-films"))


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_another_package_is_refused(package, content):
    package.write_bytes(content or _archive({"other/file": "text"}))
    with pytest.raises(CorpusError, match="must be the source package of vaderSentiment 3.3.2"):
        list(_texts("snippets-tweets"))


def _texts(name: str) -> Iterator[str]:
    """The documents of a corpus as text."""
    return (as_document(one).text for one in corpus(name).read())


def _archive(files: dict[str, str | bytes]) -> bytes:
    """A compressed archive of some files."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as opened:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            opened.addfile(entry, io.BytesIO(data))
    return whole.getvalue()
