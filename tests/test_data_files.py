"""Corpora from files and folders of every kind."""

import bz2
import gzip
import json
import os
from pathlib import Path

import pyarrow
import pytest
from datasets import Dataset, config

from hf_untangle.data import opening
from hf_untangle.data.corpora import corpus
from hf_untangle.errors import CorpusError

ROWS = [{"id": number, "title": f"title {number}", "text": f"text {number}"} for number in range(5)]
TEXTS = [row["text"] for row in ROWS]


def zstd(content: bytes) -> bytes:
    """Compress with Zstandard."""
    return pyarrow.compress(content, codec="zstd", asbytes=True)


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


PLAIN = "text\nfirst\nsecond\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("semicolons.csv", "id;text\n1;first, with a comma\n2;second\n"),
        ("tabs.tsv", "id\ttext\n1\tfirst, with a comma\n2\tsecond\n"),
        ("tabs.csv", "id\ttext\n1\tfirst, with a comma\n2\tsecond\n"),
        ("bars.csv", "id|text\n1|first, with a comma\n2|second\n"),
        ("windows.csv", 'id,text\r\n1,"first, with a comma"\r\n2,second\r\n'),
        ("one_column.csv", 'text\n"first, with a comma"\nsecond\n'),
        ("blank_lines.csv", '\nid,text\n\n1,"first, with a comma"\n2,second\n\n'.lstrip("\n")),
        ("lines.json", '{"text": "first, with a comma"}\n{"text": "second"}\n'),
        ("columns.json", '{"id": [1, 2], "text": ["first, with a comma", "second"]}'),
        ("some_columns.jsonl", '{"text": "first, with a comma"}\n{"id": 2, "text": "second"}\n'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_every_dialect_and_with_byte_order_marks_are_read(tmp_path, name, content, encoding):
    (tmp_path / name).write_bytes(content.encode(encoding))
    assert list(corpus(tmp_path / name).read()) == ["first, with a comma", "second"]


def test_words_that_other_programs_take_for_empty_are_words(tmp_path):
    words = ["NA", "null", "None", "nan", "N/A", "inf", "first"]
    (tmp_path / "a.csv").write_text("id,text\n" + "".join(f"{number},{word}\n" for number, word in enumerate(words)) + "7,\n")
    assert list(corpus(tmp_path / "a.csv").read()) == words


def test_numbers_among_words_are_words(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n1,first\n2,42\n3,007\n")
    assert list(corpus(tmp_path / "a.csv").read()) == ["first", "42", "007"]


@pytest.mark.parametrize(("name", "packed"), [("gz", gzip.compress), ("bz2", bz2.compress), ("zst", zstd)])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "txt", "parquet"])
def test_compressed_files_are_read_as_they_were(tmp_path, name, packed, kind):
    plain = write_table(tmp_path, kind, ROWS) if kind != "txt" else tmp_path / "data.txt"
    if kind == "txt":
        plain.write_text("a text")
    expected = list(corpus(plain).read())
    path = plain.with_name(f"{plain.name}.{name}")
    path.write_bytes(packed(plain.read_bytes()))
    assert list(corpus(path).read()) == expected


@pytest.mark.parametrize("content", [b"nonsense", gzip.compress(PLAIN.encode())[:-9]])
def test_a_damaged_compressed_file_is_an_error(tmp_path, content):
    (tmp_path / "a.csv.gz").write_bytes(content)
    with pytest.raises(CorpusError, match=r"cannot be read \("):
        list(corpus(tmp_path / "a.csv.gz").read())


@pytest.mark.parametrize("content", ["text,id\nfirst,1,2\n", 'text\n"first\n'])
def test_a_broken_csv_file_is_an_error(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(CorpusError, match="could not be read: .* Is it complete?"):
        list(corpus(tmp_path / "a.csv").read())


def test_what_is_no_file_of_text_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    for name in ("holes.txt", "holes.jsonl"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(20 << 30)
    for name, sentence in {"pipe.txt": "empty|a pipe", "holes.txt": "a sparse file", "holes.jsonl": "a sparse file"}.items():
        with pytest.raises(CorpusError, match=sentence):
            list(corpus(tmp_path / name).read())


@pytest.mark.parametrize("name", ["long.txt.gz", "long.jsonl.gz", "long.csv.gz", "long.json"])
def test_a_line_without_an_end_is_given_up(tmp_path, monkeypatch, name):
    monkeypatch.setattr(opening, "LONGEST_LINE", 1 << 20)
    content = b'["' + b"word " * (1 << 20)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(CorpusError, match="A line of a file must be shorter than 1 MiB"):
        list(corpus(tmp_path / name).read())


def test_halves_of_characters_become_the_sign_for_what_cannot_be_read(tmp_path):
    half, whole = "a word \ud83d and more", "a word \ufffd and more"
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"text": half}))
    assert list(corpus(file).read()) == list(corpus([half]).read()) == [whole]
    chat = [{"role": "user", "content": half}, {"role": "assistant", "content": "\U0001f600"}]
    (document,) = corpus([{"messages": chat}]).read()
    assert whole in document.text and "\U0001f600" in document.text


def test_lists_of_strings_are_no_column_of_text():
    with pytest.raises(CorpusError, match="`text` of `rows` holds lists of strings. Join them"):
        corpus([{"text": ["one", "two"]}])


def test_hidden_files_and_environments_are_left_out_of_a_folder(tmp_path):
    for name in (
        ".git/a.txt",
        ".venv/a.py",
        ".hidden.txt",
        "venv/lib/a.py",
        "venv/pyvenv.cfg",
        "node_modules/a.md",
        "deep/a.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert list(corpus(tmp_path).read()) == ["deep/a.txt"]


def test_a_pattern_means_the_files_that_match_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "deep").mkdir(parents=True)
    for number, name in enumerate(("one.jsonl", "two.jsonl", "deep/three.jsonl", "four.csv")):
        (tmp_path / "data" / name).write_text(
            json.dumps({"text": f"{number}", "title": "t"}) if "json" in name else "text\n3\n"
        )
    assert sorted(corpus("data/*.jsonl:text").read()) == ["0", "1"]
    assert sorted(corpus(f"{tmp_path}/data/**/*.jsonl:text").read()) == ["0", "1", "2"]
    assert list(corpus("data/t*.jsonl:title").read()) == ["t"]
    with pytest.raises(CorpusError, match="There is no file or folder `data/none"):
        corpus("data/none*.jsonl")


def test_reading_a_table_asks_the_network_for_nothing(table, monkeypatch):
    asked: list[tuple] = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *address, **_: asked.append(address) or [])
    assert list(corpus(table).read()) == TEXTS
    assert asked == []
