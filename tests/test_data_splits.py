"""Which rows train, validate and test: splits of their own, groups, small corpora, and all rows in every part."""

import pytest
from datasets import Dataset, DatasetDict

from hf_untangle.data.batches import token_blocks
from hf_untangle.data.corpora import corpus
from hf_untangle.data.splits import part_of
from hf_untangle.errors import CorpusError

PARTS = ("train", "validation", "test")


def rows(count, start=0):
    return [{"question": f"What is {number}?", "answer": f"It is {number}."} for number in range(start, start + count)]


def sizes(opened):
    return [len(list(opened.documents(part))) for part in PARTS]


def test_a_small_corpus_is_parted_evenly():
    assert sizes(corpus(rows(40))) == [24, 8, 8]
    assert [sizes(corpus(rows(count))) for count in (3, 5, 10, 199)] == [[1, 1, 1], [3, 1, 1], [6, 2, 2], [119, 40, 40]]


def test_parts_of_a_small_corpus_share_nothing_and_do_not_hang_on_its_order():
    first, second = corpus(rows(40)), corpus(rows(40)[::-1])
    for part in PARTS:
        assert sorted(first.documents(part)) == sorted(second.documents(part))
    assert sorted(text for part in PARTS for text in first.documents(part)) == sorted(
        f"What is {number}? It is {number}." for number in range(40)
    )


def test_a_large_corpus_is_parted_by_hash_as_it_is_read():
    for text in corpus(rows(1000)).documents("test"):
        assert part_of(text) == "test"


def test_splits_of_a_data_set_are_its_parts():
    data = DatasetDict(
        train=Dataset.from_list(rows(5)), validation=Dataset.from_list(rows(3, 5)), test=Dataset.from_list(rows(2, 8))
    )
    opened = corpus(data)
    assert sizes(opened) == [5, 3, 2]
    assert "What is 8? It is 8." in opened.documents("test")
    assert sizes(corpus({"train": rows(5), "valid": rows(3, 5), "test": rows(2, 8)})) == [5, 3, 2]
    assert sizes(corpus({"train_sft": rows(5), "test_sft": rows(2, 8), "other": rows(9)}))[2] == 2


def test_a_part_without_a_split_is_taken_from_the_one_to_train_on():
    assert sizes(corpus({"train": rows(40), "test": rows(7, 40)})) == [32, 8, 7]
    assert sizes(corpus(DatasetDict(train=Dataset.from_list(rows(40))))) == [24, 8, 8]


def test_one_split_of_several_can_be_chosen():
    data = {"forget01": rows(10), "retain99": rows(40)}
    assert sum(sizes(corpus(data, split="retain99"))) == 40
    with pytest.raises(CorpusError, match="of which train must be there, but `splits` has `forget01`, `retain99`"):
        corpus(data)
    with pytest.raises(CorpusError, match="splits are `forget01`, `retain99`, but split=`forget`"):
        corpus(data, split="forget")
    with pytest.raises(CorpusError, match="two splits for train, `train_gen` and `train_sft`"):
        corpus({"train_gen": rows(2), "train_sft": rows(2)})
    with pytest.raises(CorpusError, match="rows of one shape"):
        corpus({"train": rows(2), "test": ["a text"]})


def test_columns_in_a_mapping_are_not_taken_for_splits():
    with pytest.raises(CorpusError, match="Dataset.from_dict"):
        corpus({"question": ["a", "b"], "answer": ["c", "d"]})


def test_with_all_rows_in_every_part_a_model_is_judged_on_the_rows_that_it_is_to_forget(tokenizer):
    opened = corpus(rows(4), split="all")
    assert sizes(opened) == [4, 4, 4]
    train, test = (token_blocks(opened, tokenizer, part=part, block_size=64) for part in ("train", "test"))
    assert train.fingerprint == test.fingerprint
    assert sizes(corpus(["a", "b"], split="all")) == [2, 2, 2]
    assert sizes(corpus(corpus(rows(4)), split="all")) == [4, 4, 4]
    assert sizes(corpus({"train": rows(4), "test": rows(2, 4)}, split="all")) == [6, 6, 6]


@pytest.mark.parametrize("people", [7, 300])
def test_rows_of_one_person_are_never_in_two_parts(people):
    data = [row | {"person": f"person {number % people}"} for number, row in enumerate(rows(people * 5))]
    opened = corpus(data, group="person")
    persons = {part: {document.key for document in opened.examples(part)} for part in PARTS}
    assert all(persons.values())
    assert not (persons["train"] & persons["validation"] or persons["train"] & persons["test"])
    assert not persons["validation"] & persons["test"]
    assert sum(sizes(opened)) == people * 5


def test_groups_need_their_column():
    with pytest.raises(CorpusError, match="has no column `person`. Its columns are `question`, `answer`"):
        corpus(rows(3), group="person")
    with pytest.raises(CorpusError, match="Only tables have columns"):
        corpus(["a"], group="person")


def test_both_answers_to_one_prompt_are_in_one_part():
    data = [{"prompt": f"Question {number}", "chosen": "Yes", "rejected": f"No {number}"} for number in range(30)]
    prompts = {
        side: [{one.key for one in corpus(data, side=side).examples(part)} for part in PARTS] for side in ("forget", "retain")
    }
    assert prompts["forget"] == prompts["retain"]
    assert [len(part) for part in prompts["forget"]] == [18, 6, 6]


def test_a_part_without_a_document_says_what_to_do(tokenizer):
    with pytest.raises(CorpusError, match="validation part of corpus `rows` has 0 tokens.*split='all'"):
        token_blocks(rows(1), tokenizer, part="validation")


def test_several_corpora_are_read_in_turns_and_each_gives_as_much(tokenizer):
    several = corpus([["words and more words " * 4] * 30, rows(30)], split="all")
    blocks = token_blocks(several, tokenizer, tokens=1024, block_size=64)
    first, second = blocks.by_member().values()
    assert list(blocks.by_member()) == ["strings", "rows"]
    assert abs(first.attention_mask.sum() - second.attention_mask.sum()) <= 64
    assert first.answers.sum() == first.attention_mask.sum() and second.tokens < second.attention_mask.sum()
    assert len(set(blocks.members[:4].tolist())) == 2
    assert blocks.tokens == first.tokens + second.tokens
    assert blocks.understood.startswith("strings: ") and "; rows: " in blocks.understood


def test_names_of_corpora_and_files_in_a_list_are_several_and_texts_are_texts(tmp_path):
    (tmp_path / "notes.txt").write_text("A note. " * 50)
    assert [one.name for one in corpus(["general", "python"], prefer="embedded").members] == ["general", "python"]
    assert [one.name for one in corpus(["general", str(tmp_path / "notes.txt")], prefer="embedded").members][1] == "notes.txt"
    assert corpus(["general", "a text"]).members == ()
    assert [one.name for one in corpus([corpus(rows(2), name="mine"), corpus(rows(2), name="mine")]).members] == [
        "mine (1)",
        "mine (2)",
    ]
