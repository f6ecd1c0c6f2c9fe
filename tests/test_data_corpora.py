"""What a corpus can be made of, and how its documents are parted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import Dataset, IterableDataset

from hf_untangle.data.corpora import Corpus, corpus, part_of
from hf_untangle.errors import CorpusError

PARTS = ("train", "validation", "test")


def test_parts_share_no_document_and_leave_none_out():
    texts = [f"text {number}" for number in range(100)]
    opened = corpus(texts)
    parted = [list(opened.documents(part)) for part in PARTS]
    assert sorted(sum(parted, [])) == sorted(texts)


def test_parts_hold_three_one_and_one_fifth():
    counts = dict.fromkeys(PARTS, 0)
    for number in range(5_000):
        counts[part_of(f"text {number}")] += 1
    assert counts["train"] == pytest.approx(3_000, abs=150)
    assert counts["validation"] == pytest.approx(1_000, abs=100)
    assert counts["test"] == pytest.approx(1_000, abs=100)


def test_copies_of_a_document_are_in_one_part_whatever_their_white_space():
    for number in range(20):
        assert part_of(f"text {number}") == part_of(f"  text\r\n{number}\n")


def test_the_part_of_a_document_never_changes():
    assert [part_of(text) for text in "abcd"] == ["train", "train", "train", "test"]


def test_a_text_that_is_not_valid_unicode_has_a_part_too():
    assert part_of("\ud800") in PARTS


def test_blank_documents_are_in_no_part():
    assert [list(corpus(["", " \n"]).documents(part)) for part in PARTS] == [[], [], []]


def test_a_list_of_strings_is_a_corpus():
    opened = corpus(["one", "two"])
    assert list(opened.read()) == list(opened.read()) == ["one", "two"]
    assert (opened.name, opened.origin, opened.license) == ("strings", "strings", "unknown")


def test_a_corpus_is_given_back_as_it_is():
    opened = corpus(["one"])
    assert corpus(opened) is opened


def test_a_generator_can_be_read_again_and_is_read_only_as_far_as_needed():
    drawn: list[int] = []

    def texts() -> Iterator[str]:
        for number in range(10**9):
            drawn.append(number)
            yield f"text {number}"

    opened = corpus(texts())
    assert drawn == [0]
    assert [next(opened.read()) for _ in range(3)] == ["text 0"] * 3
    first, second = opened.read(), opened.read()
    assert [next(first), next(first), next(second), next(first)] == ["text 0", "text 1", "text 0", "text 2"]
    assert drawn == [0, 1, 2]


@pytest.mark.parametrize("kind", [Dataset, IterableDataset])
def test_a_data_set_is_a_corpus_of_its_text_column(kind):
    data = Dataset.from_dict({"number": [1, 2], "words": ["one", "two"]})
    opened = corpus(data if kind is Dataset else data.to_iterable_dataset())
    assert list(opened.read()) == list(opened.read()) == ["one", "two"]
    assert opened.origin == "dataset"
    assert kind.__name__ in opened.source


def test_a_usual_name_decides_between_columns_of_text():
    data = Dataset.from_dict({"title": ["t"], "comment_text": ["c"], "text": ["x"]})
    assert list(corpus(data).read()) == ["x"]
    assert list(corpus(data.remove_columns("text")).read()) == ["c"]
    assert list(corpus(data, column="title").read()) == ["t"]


def test_columns_of_text_with_unusual_names_are_an_error_that_lists_them():
    data = Dataset.from_dict({"left": ["a"], "right": ["b"]})
    with pytest.raises(CorpusError, match="no column that is clearly the text. Its columns are `left`, `right`"):
        corpus(data)


def test_a_missing_column_is_an_error_that_lists_the_others():
    data = Dataset.from_dict({"left": ["a"], "right": ["b"]})
    with pytest.raises(CorpusError, match="has no column `middle`. Its columns are `left`, `right`"):
        corpus(data, column="middle")


def test_a_column_of_numbers_is_an_error():
    data = Dataset.from_dict({"text": ["a"], "number": [1]})
    with pytest.raises(CorpusError, match="row 0 of `dataset` holds int in `number`"):
        corpus(data, column="number")


def test_rows_without_a_text_are_skipped():
    data = Dataset.from_dict({"text": [None, "a", None, "b"]})
    assert list(corpus(data).read()) == ["a", "b"]


def test_a_data_set_without_rows_is_an_error():
    with pytest.raises(CorpusError, match="`dataset` has no rows"):
        corpus(Dataset.from_dict({"text": []}))


def test_an_item_that_is_no_string_is_an_error_that_says_where():
    opened = corpus(item for item in ["one", 2])  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="item 1 is of type int"):
        list(opened.read())


def test_an_unknown_name_is_an_error_that_offers_the_nearest():
    with pytest.raises(CorpusError, match="no corpus named `wmdp-boi`.*Did you mean wmdp-bio"):
        corpus("wmdp-boi")
    with pytest.raises(CorpusError, match="no corpus named `qqq`.*code, python, other-code, general"):
        corpus("qqq")


def test_a_text_that_is_passed_as_a_corpus_is_an_error_and_not_a_crash():
    with pytest.raises(CorpusError, match="a text itself goes into a list"):
        corpus("Once upon a time. There was a text, and it was long. " * 100)


def test_strings_have_neither_columns_nor_splits():
    with pytest.raises(CorpusError, match="Leave out column=`text`"):
        corpus(["one"], column="text")
    with pytest.raises(CorpusError, match="Leave out split=`train`"):
        corpus(["one"], split="train")


def test_a_corpus_is_frozen():
    with pytest.raises(AttributeError):
        corpus(["one"]).name = "two"  # type: ignore[misc]


def test_a_path_object_is_never_taken_for_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match="no file or folder `code`"):
        corpus(Path("code"))


def test_documents_of_a_corpus_of_ones_own():
    own = Corpus("own", "strings", "made by hand", "MIT", lambda: iter(["b", "c"]), whole=True)
    assert list(own.documents("train")) == ["b", "c"]
