"""Corpora from files and folders of every kind."""

import json
from pathlib import Path

import pytest
from datasets import Dataset, config

from hf_untangle.data.corpora import corpus
from hf_untangle.errors import CorpusError

ROWS = [{"id": number, "title": f"title {number}", "text": f"text {number}"} for number in range(5)]
TEXTS = [row["text"] for row in ROWS]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> Path:
    """Keep `datasets` away from the user's cache."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", cache)
    return cache


def write_table(folder: Path, kind: str, rows: list[dict]) -> Path:
    path = folder / f"data.{kind}"
    table = Dataset.from_list(rows)
    if kind == "csv":
        table.to_csv(path, index=False)
    elif kind == "parquet":
        table.to_parquet(path)
    else:
        table.to_json(path, lines=kind == "jsonl")
    return path


@pytest.fixture(params=["jsonl", "json", "csv", "parquet"])
def table(request, tmp_path) -> Path:
    return write_table(tmp_path, request.param, ROWS)


def test_every_kind_of_table_has_one_document_a_row(table):
    opened = corpus(table)
    assert list(opened.read()) == list(opened.read()) == TEXTS
    assert (opened.name, opened.origin, opened.source) == (table.name, "file", str(table))


def test_the_column_follows_a_colon_or_is_an_argument(table):
    titles = [row["title"] for row in ROWS]
    assert list(corpus(f"{table}:title").read()) == titles
    assert list(corpus(str(table), column="title").read()) == titles


def test_a_table_leaves_no_copy_in_the_cache(table, own_cache):
    list(corpus(table).read())
    assert not [path for path in own_cache.rglob("*") if path.is_file() and path.stat().st_size]


def test_a_missing_column_of_a_table_is_an_error(table):
    with pytest.raises(CorpusError, match="has no column `body`. Its columns are `id`, `title`, `text`"):
        corpus(f"{table}:body")


def test_two_different_columns_are_an_error(table):
    with pytest.raises(CorpusError, match="names a column, and column=`text` names another"):
        corpus(f"{table}:title", column="text")


def test_json_may_be_a_plain_list_of_strings(tmp_path):
    path = tmp_path / "texts.json"
    path.write_text(json.dumps(TEXTS))
    assert list(corpus(path).read()) == TEXTS


@pytest.mark.parametrize("name", ["odd[1].csv", "star*.csv", "two words.CSV", "with:colon.csv"])
def test_names_of_files_are_taken_literally(tmp_path, name):
    path = tmp_path / name
    path.write_text("text\nhello\n")
    (tmp_path / "stars.csv").write_text("text\nanother\n")
    assert list(corpus(str(path)).read()) == ["hello"]


@pytest.mark.parametrize("suffix", ["txt", "md", "py"])
def test_a_text_file_is_gathered_into_documents_that_end_at_blank_lines(tmp_path, suffix):
    paragraphs = [f"Paragraph {number}. " + "word " * 100 + "\n\n" for number in range(20)]
    path = tmp_path / f"notes.{suffix}"
    path.write_text("".join(paragraphs))
    documents = list(corpus(path).read())
    assert "".join(documents) == "".join(paragraphs)
    assert all(document.startswith("Paragraph") and document.endswith("\n\n") for document in documents)
    assert all(2_000 <= len(document) < 2_600 for document in documents[:-1])


def test_a_text_without_blank_lines_is_cut_between_lines(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("a line of nothing much\n" * 1_000)
    documents = list(corpus(path).read())
    assert all(document.endswith("much\n") for document in documents)
    assert all(4_000 <= len(document) < 4_100 for document in documents[:-1])


def test_a_folder_has_one_document_a_text_file_and_one_a_row(tmp_path):
    write_table(tmp_path, "jsonl", ROWS)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "note.md").write_text("first\n\nsecond " * 500)
    (tmp_path / "script.py").write_text("print()")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    documents = list(corpus(tmp_path).read())
    assert sorted(documents) == sorted([*TEXTS, "first\n\nsecond " * 500, "print()"])


def test_the_files_of_a_folder_come_shuffled_but_always_in_the_same_order(tmp_path):
    for root in ("here", "there"):
        (tmp_path / root).mkdir()
        for number in range(20):
            (tmp_path / root / f"{number:02}.txt").write_text(f"{number:02}")
    here, there = (list(corpus(tmp_path / root).read()) for root in ("here", "there"))
    assert here == there != sorted(here)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(CorpusError, match="There is no file or folder"):
        corpus(tmp_path / "none.csv")
    with pytest.raises(CorpusError, match=r"There is no file or folder `none.csv`"):
        corpus("none.csv:text")


def test_an_unknown_kind_is_an_error_that_lists_the_known_ones(tmp_path):
    path = tmp_path / "book.pdf"
    path.write_bytes(b"%PDF")
    with pytest.raises(CorpusError, match=r"unknown kind \(`.pdf`\). Files must end in .txt, .md, .py, .jsonl"):
        corpus(path)


@pytest.mark.parametrize(("name", "content"), [("a.txt", ""), ("a.csv", ""), ("b.csv", "text\n"), ("a.jsonl", "\n")])
def test_an_empty_file_is_an_error(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(CorpusError, match="A corpus needs at least one document"):
        corpus(tmp_path / name)


def test_a_folder_without_a_readable_file_is_an_error(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(CorpusError, match="holds no file that can be read. Files must end in"):
        corpus(tmp_path)


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", '{"text": "a"}\n{nonsense'), ("a.parquet", "none")])
def test_a_broken_table_is_an_error(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(CorpusError, match="could not be read: .* Is it complete?"):
        corpus(tmp_path / name)


def test_a_text_file_has_no_columns(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(CorpusError, match="is a text file and has no columns"):
        corpus(tmp_path / "a.txt", column="text")


@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_text_that_is_not_utf8_is_an_error(tmp_path, whole_folder):
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(CorpusError, match="must be UTF-8, but .*latin.txt` is not"):
        list(corpus(tmp_path if whole_folder else tmp_path / "latin.txt").read())


def test_a_column_of_numbers_is_an_error(tmp_path):
    (tmp_path / "a.csv").write_text("number,text\n1,a\n")
    with pytest.raises(CorpusError, match="row 0 of .* holds int in `number`"):
        corpus(tmp_path / "a.csv", column="number")


def test_reading_a_table_asks_the_network_for_nothing(table, monkeypatch):
    asked: list[tuple] = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *address, **_: asked.append(address) or [])
    assert list(corpus(table).read()) == TEXTS
    assert asked == []
