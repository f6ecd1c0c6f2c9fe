"""Streams that never end, and never come to what is sought, are given up."""

from itertools import chain, repeat

import pytest

from hf_untangle.data import endless_streams
from hf_untangle.data.corpora import corpus
from hf_untangle.errors import CorpusError

TEXTS = [f"text number {number}" for number in range(40)]


@pytest.fixture(autouse=True)
def sooner(monkeypatch):
    """A million takes seconds."""
    monkeypatch.setattr(endless_streams, "MOST", 500)


@pytest.mark.parametrize(
    ("stream", "missing"),
    [
        (lambda: chain(TEXTS, repeat("")), "a document with text in it"),
        (lambda: repeat("the same text again"), "a document of its part"),
        (lambda: chain([{"text": "one"}], repeat({"text": None})), "a row without an empty cell"),
    ],
)
def test_what_never_comes_is_given_up(stream, missing):
    opened = corpus(stream())
    with pytest.raises(CorpusError, match=f"{missing}.* among any 500 in a row"):
        for part in ("train", "validation", "test"):
            for _ in range(100):
                next(opened.examples(part))
            list(zip(range(10_000), opened.examples(part), strict=False))


def test_what_comes_at_last_is_found():
    gaps = [text for one in TEXTS for text in (*[""] * 400, one)]
    read = [text for part in ("train", "validation", "test") for text in corpus(iter(gaps)).documents(part)]
    assert sorted(read) == sorted(TEXTS)
