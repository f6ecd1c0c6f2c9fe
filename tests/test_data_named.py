"""Named corpora: the catalog, what stands in offline, and the Hub (here a fake one)."""

import logging
import platform
from itertools import islice
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from hf_untangle.data import corpora, embedded
from hf_untangle.data.catalogue import CORPORA
from hf_untangle.data.corpora import corpus
from hf_untangle.data.documents import Pair, as_document
from hf_untangle.data.public_sets import PUBLIC_SETS
from hf_untangle.errors import CorpusError
from hf_untangle.hub import reachable as reachability

FAKE_ROWS = {
    "codeparrot/github-code-clean": [{"code": "int main;", "language": "C"}, {"code": "pass", "language": "Python"}],
    "codeparrot/codeparrot-clean": [{"content": "pass", "path": "a.py"}],
    "allenai/c4": [{"text": "Once.", "url": "u"}],
    "google/civil_comments": [
        {"text": "awful", "toxicity": 0.9},
        {"text": "rude", "toxicity": 0.5},
        {"text": "kind", "toxicity": 0.1},
    ],
    "Salesforce/wikitext": [
        {"text": line} for line in ("", " = One = \n", "", " A. \n", " = = Deep = = \n", " B. \n", " = Two = \n", " C. \n")
    ],
    "monology/pile-uncopyrighted": [
        {"text": "x = 1", "meta": {"pile_set_name": "Github"}},
        {"text": "A paper.", "meta": {"pile_set_name": "ArXiv"}},
    ],
    "cais/wmdp-bio-forget-corpus": [{"text": "withheld"}],
    "locuslab/TOFU": [{"question": "Who?", "answer": "Nobody."}],
}


@pytest.fixture
def opened(monkeypatch) -> list[tuple]:
    """A Hub that answers, and the list of what was opened there."""
    calls: list[tuple] = []

    def fake_load(path, config=None, *, split, streaming, data_files=None):
        assert streaming
        where = path if data_files is None else data_files[split].removeprefix("hf://datasets/").split("@")[0]
        calls.append((path, config, split, data_files))
        return FAKE_ROWS[where]

    monkeypatch.setattr(corpora, "hub_is_reachable", lambda: True)
    monkeypatch.setattr("datasets.load_dataset", fake_load)
    return calls


@pytest.fixture
def offline(monkeypatch) -> None:
    monkeypatch.setattr(corpora, "hub_is_reachable", lambda: False)


@pytest.mark.parametrize("name", [name for name, entry in CORPORA.items() if entry.repository and name not in PUBLIC_SETS])
def test_every_named_corpus_reads_documents_from_the_hub(opened, name):
    taken = corpus(name)
    assert (taken.name, taken.origin, taken.license) == (name, "hub", CORPORA[name].license)
    assert taken.source.startswith(CORPORA[name].repository)
    assert [document.key for document in map(as_document, taken.read())]


def test_the_hub_is_asked_for_nothing_before_documents_are(opened):
    taken = corpus("general")
    assert opened == []
    assert next(taken.read()) == "Once."
    assert opened == [("allenai/c4", "en", "train", None)]


def test_toxic_and_civil_are_the_two_ends_of_the_toxicity_scale(opened):
    assert list(corpus("toxic").read()) == ["awful"]
    assert list(corpus("civil").read()) == ["kind"]


def test_the_pile_is_read_without_its_github_part_from_the_parquet_copy(opened):
    assert list(corpus("pile-no-code").read()) == ["A paper."]
    ((builder, _, _, files),) = opened
    assert builder == "parquet"
    assert files == {"train": "hf://datasets/monology/pile-uncopyrighted@refs/convert/parquet/default/partial-train/*.parquet"}


def test_other_code_is_code_without_python(opened):
    assert list(corpus("code").read()) == ["int main;", "pass"]
    assert list(corpus("other-code").read()) == ["int main;"]


def test_tofu_documents_are_a_question_and_its_answer(opened):
    (document,) = map(as_document, corpus("tofu-forget05").read())
    assert document.content == Pair("Who?", "Nobody.", joined=True)
    assert set(opened) == {("locuslab/TOFU", "forget05", "train", None)}


def test_wikitext_lines_are_joined_into_articles(opened):
    before, first, second = corpus("wikitext").read()
    assert before == ""
    assert first == " = One = \n A. \n = = Deep = = \n B. \n"
    assert second == " = Two = \n C. \n"


def test_another_split_and_column_of_a_named_corpus(opened):
    taken = corpus("toxic", split="validation", column="text")
    assert taken.source == "google/civil_comments (validation)"
    list(taken.read())
    assert opened == [("google/civil_comments", None, "validation", None)]
    with pytest.raises(CorpusError, match="google/civil_comments` has no column `words`"):
        list(corpus("toxic", column="words").read())


def test_the_embedded_form_can_be_preferred_to_a_hub_that_answers(opened):
    assert corpus("code", prefer="embedded").origin == "embedded"
    assert opened == []


def test_what_the_hub_refuses_is_an_error_that_names_the_corpus(opened, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("it is gated.")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(CorpusError, match="`wmdp-bio-forget` could not be read from cais/.* it is gated. Log in"):
        list(corpus("wmdp-bio-forget").read())
    with pytest.raises(CorpusError, match="`code` could not be read .* HF_HUB_OFFLINE=1 to take its embedded form"):
        list(corpus("code").read())


@pytest.mark.parametrize("name", [name for name, entry in CORPORA.items() if entry.embedded])
def test_offline_the_embedded_form_is_taken_and_said(offline, caplog, name):
    with caplog.at_level(logging.INFO, "hf_untangle"):
        taken = corpus(name)
    assert taken.origin == "embedded"
    assert f"Corpus `{name}` is taken from {taken.source} (embedded)." in caplog.text


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("wikitext", {}),
        ("code", {"prefer": "hub"}),
        ("code", {"split": "test"}),
        ("general", {"column": "url"}),
    ],
)
def test_offline_what_only_the_hub_has_is_an_error(offline, name, choices):
    with pytest.raises(CorpusError, match=f"`{name}` has to come from .* on the Hub, which does not answer"):
        corpus(name, **choices)


def test_only_code_python_other_code_general_facts_and_snippets_need_no_hub():
    embedded = [name for name, entry in CORPORA.items() if entry.embedded]
    assert embedded[:4] == ["code", "python", "other-code", "general"]
    assert all(name.startswith(("facts-", "snippets-")) for name in embedded[4:])


def test_facts_are_in_this_package_alone(opened):
    taken = corpus("facts-forget")
    assert (taken.origin, taken.kind, opened) == ("embedded", "pair", [])
    for choices in ({"prefer": "hub"}, {"split": "test"}, {"column": "cloze"}):
        with pytest.raises(CorpusError, match="`facts-forget` is in this package alone"):
            corpus("facts-forget", **choices)


def test_offline_code_is_the_standard_library_of_this_interpreter(offline):
    taken = corpus("code")
    assert taken.source == f"Python {platform.python_version()} standard library"
    assert taken.license == "PSF-2.0"
    documents = list(islice(taken.read(), 50))
    assert documents == list(islice(corpus("python").read(), 50))
    assert sum("import " in document for document in documents) > 25


def test_the_standard_library_leaves_out_what_is_not_typical_code(tmp_path, monkeypatch):
    # The folder above is named `test` on purpose: only folders inside the library are left out.
    root = tmp_path / "test" / "python3"
    kept, left_out = (
        ("this.py", "json/tool.py"),
        ("test/regr.py", "json/tests/a.py", "site-packages/torch.py"),
    )
    for name in (*kept, *left_out):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "latin.py").write_bytes(b"# caf\xe9")
    (root / "notes.txt").write_text("no code")
    monkeypatch.setattr(embedded.sysconfig, "get_paths", lambda: {"stdlib": str(root)})
    assert sorted(corpus("code", prefer="embedded").read()) == sorted(kept)


def test_offline_general_is_the_prose_of_this_package(offline, tmp_path, monkeypatch):
    (tmp_path / "general").mkdir()
    for title in ("letter", "recipe", "story"):
        (tmp_path / "general" / f"{title}.txt").write_text(f"A {title}.\n\nIts second paragraph.")
    monkeypatch.setattr(embedded, "files", {"hf_untangle.data": tmp_path}.__getitem__)
    taken = corpus("general")
    assert taken.license == "Apache-2.0"
    assert sorted(taken.read()) == [f"A {title}.\n\nIts second paragraph." for title in ("letter", "recipe", "story")]


def test_the_prose_of_this_package_is_never_blank(offline):
    assert all(document.strip() for document in corpus("general").read())


def test_the_programs_of_this_package_are_many_and_none_is_python(offline):
    programs = list(corpus("other-code").read())
    assert len(programs) >= 12 and sum(map(len, programs)) > 25_000
    assert not any("\ndef " in program or "\nimport sys" in program for program in programs)


class FakeSession:
    """Answers every request with one status, or raises."""

    def __init__(self, answer: int | Exception):
        self.answer = answer
        self.requests: list[tuple] = []

    def head(self, url: str, timeout: float) -> SimpleNamespace:
        self.requests.append((url, timeout))
        if isinstance(self.answer, Exception):
            raise self.answer
        return SimpleNamespace(status_code=self.answer)


@pytest.fixture
def ask(monkeypatch):
    """Ask a fake Hub, as the first question of a process."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def asked(answer: int | Exception) -> tuple[bool, FakeSession]:
        session = FakeSession(answer)
        monkeypatch.setattr(reachability, "get_session", lambda: session)
        reachability._ask.cache_clear()
        return reachability.hub_is_reachable(), session

    yield asked
    reachability._ask.cache_clear()


@pytest.mark.parametrize(
    ("answer", "reachable"),
    [(200, True), (307, True), (503, False), (ConnectionError("no route"), False), (TimeoutError(), False)],
)
def test_the_hub_is_reachable_when_it_answers(ask, answer, reachable):
    assert ask(answer)[0] is reachable


def test_the_hub_is_asked_once_a_minute_and_not_waited_for(ask):
    _, session = ask(200)
    assert reachability.hub_is_reachable()
    assert session.requests == [(constants.ENDPOINT, 2.0)]


def test_the_hub_is_not_asked_when_offline_mode_is_on(ask, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    reachable, session = ask(200)
    assert not reachable
    assert session.requests == []
