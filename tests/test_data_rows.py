"""Rows of every usual shape: all are accepted, and each has as many answer tokens as counted by hand."""

import json
from copy import deepcopy

import pandas
import pytest
import torch
from chat_templates import CHATML, WITH_TOOLS
from datasets import Dataset, DatasetDict

from hf_untangle.data.batches import token_blocks
from hf_untangle.data.corpora import corpus
from hf_untangle.data.documents import IGNORED
from hf_untangle.errors import CorpusError

USER = {"role": "user", "content": "Hi?"}
ANSWER = {"role": "assistant", "content": "Yes."}
SYSTEM = {"role": "system", "content": "Be brief."}
IDS = [10, 11, 12, 13, 14]


@pytest.fixture(scope="module")
def chat_tokenizer(tokenizer):
    """One token a byte, and a template by which a turn `<|role|>content<eos>` has its role in one byte each."""
    changed = deepcopy(tokenizer)
    changed.chat_template = CHATML
    changed.name_or_path = "somebody/toy-chat"
    return changed


# What a row is, how many tokens are to be predicted under the template, and without it (None where it is refused).
SHAPES = {
    "text": ({"text": "Yes."}, None, None),
    "messages": ({"messages": [USER, ANSWER]}, 5, None),
    "messages of several turns": (
        {"messages": [SYSTEM, USER, ANSWER, USER, {"role": "assistant", "content": "No!"}]},
        5 + 4,
        None,
    ),
    "sharegpt": ({"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes."}]}, 5, None),
    "messages in blocks": ({"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]}]}, 5, None),
    "prompt and completion": ({"prompt": "Hi?", "completion": " Yes."}, 6, 6),
    "prompt and completion of messages": ({"prompt": [USER], "completion": [ANSWER]}, 5, None),
    "question and answer": ({"question": "Hi?", "answer": "Yes."}, 5, 6),
    "instruction and output": ({"instruction": "Add", "input": "1 1", "output": "2"}, 2, 3),
    "instruction without input": ({"instruction": "Hi?", "input": "", "output": "Yes."}, 5, 6),
    "question with a system prompt": ({"system": "Be brief.", "question": "Hi?", "answer": "Yes."}, 5, 6),
    "tokens with labels": ({"input_ids": IDS, "labels": [IGNORED, IGNORED, 12, 13, IGNORED]}, 2, 2),
    "tokens with a completion mask": ({"input_ids": IDS, "completion_mask": [0, 0, 0, 1, 1]}, 2, 2),
    "tokens with assistant masks": ({"input_ids": IDS, "assistant_masks": [0, 1, 1, 1, 0]}, 3, 3),
    "padded tokens": ({"input_ids": IDS, "attention_mask": [1, 1, 1, 0, 0], "labels": [IGNORED, 11, 12, 13, 14]}, 2, 2),
    "preference": ({"prompt": "Hi?", "chosen": "Yes.", "rejected": "No"}, 5, 5),
    "preference of messages": ({"prompt": [USER], "chosen": [ANSWER], "rejected": [ANSWER]}, 5, None),
    "preference with the prompt inside": ({"chosen": [USER, ANSWER], "rejected": [USER, {**ANSWER, "content": "No"}]}, 5, None),
    "unpaired preference": ({"prompt": "Hi?", "completion": "Yes.", "label": True}, 5, 5),
}


def read(rows, tokenizer, **how):
    return token_blocks(corpus(rows, split="all", **how), tokenizer, block_size=128, packed=False)


@pytest.mark.parametrize("shape", [name for name, (_, count, _) in SHAPES.items() if count is not None])
def test_every_shape_has_the_answer_tokens_that_are_counted_by_hand(shape, chat_tokenizer):
    row, count, _ = SHAPES[shape]
    blocks = read([row, row], chat_tokenizer)
    assert blocks.tokens == 2 * count
    assert torch.equal(blocks.counted, blocks.answers)
    assert int((blocks.labels() != IGNORED).sum()) == len(blocks.queries()[1]) == 2 * count


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_without_a_template(shape, tokenizer):
    row, templated, count = SHAPES[shape]
    if templated is None:
        assert read([row], tokenizer, chat="auto").answers is None
    elif count is None:
        with pytest.raises(CorpusError, match="chats need a tokenizer with a chat template.*pass chat=False"):
            read([row], tokenizer)
    else:
        assert read([row], tokenizer).tokens == count


def test_answers_are_the_turns_of_the_assistant_and_nothing_else(chat_tokenizer):
    blocks = read([{"messages": [SYSTEM, USER, ANSWER, USER, ANSWER]}], chat_tokenizer)
    assert chat_tokenizer.decode(blocks.input_ids[blocks.answers]) == "Yes.<eos>Yes.<eos>"
    assert chat_tokenizer.decode(blocks.input_ids[0]).startswith("<|system|>Be brief.<eos><|user|>Hi?<eos><|assistant|>Yes.")


def test_a_system_column_and_tools_reach_the_template(chat_tokenizer):
    changed = deepcopy(chat_tokenizer)
    changed.chat_template = WITH_TOOLS
    rows = [{"system": "Be brief.", "messages": [USER, ANSWER], "tools": json.dumps([{"type": "function"}])}]
    written = changed.decode(read(rows, changed).input_ids[0])
    assert written.startswith("tools:1<|system|>Be brief.<eos><|user|>")


def test_plain_pairs_stand_as_they_are_and_end_with_eos(tokenizer):
    completion = read([{"prompt": "2+2=", "completion": "4"}], tokenizer)
    answer = read([{"question": "2+2?", "answer": "4"}], tokenizer)
    assert tokenizer.decode(completion.input_ids[0]) == "2+2=4<eos>"
    assert tokenizer.decode(answer.input_ids[0]) == "2+2? 4<eos>"


def test_chats_as_plain_text_have_the_role_before_every_turn(chat_tokenizer):
    blocks = read([{"messages": [USER, ANSWER]}], chat_tokenizer, chat=False)
    assert chat_tokenizer.decode(blocks.input_ids[0]) == "User: Hi?\n\nAssistant: Yes.<eos>"
    assert chat_tokenizer.decode(blocks.input_ids[blocks.answers]) == "Yes.<eos>"


def test_pairs_pass_through_the_template_or_not_as_asked(chat_tokenizer, tokenizer):
    rows = [{"question": "Hi?", "answer": "Yes."}]
    assert chat_tokenizer.decode(read(rows, chat_tokenizer).input_ids[0]).startswith("<|user|>Hi?")
    assert chat_tokenizer.decode(read(rows, chat_tokenizer, chat=False).input_ids[0]).startswith("Hi? Yes.")
    with pytest.raises(CorpusError, match="chat template"):
        read(rows, tokenizer, chat=True)


@pytest.mark.parametrize("shape", ["messages", "question and answer", "tokens with labels", "preference"])
@pytest.mark.parametrize(
    "made", [list, Dataset.from_list, iter, pandas.DataFrame, lambda rows: DatasetDict(train=Dataset.from_list(rows))]
)
def test_rows_come_in_whatever_people_have(made, shape, chat_tokenizer):
    row, count, _ = SHAPES[shape]
    assert read(made([row] * 3), chat_tokenizer).tokens == 3 * count


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "messages in blocks"])
def test_rows_come_from_files(shape, chat_tokenizer, tmp_path):
    row, count, _ = SHAPES[shape]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(3)))
    blocks = read(str(tmp_path / "rows.jsonl"), chat_tokenizer)
    assert blocks.tokens == 3 * (count or len("Yes."))
    assert blocks.corpus.name == "rows.jsonl"


def test_a_column_that_is_named_may_hold_chats(chat_tokenizer, tmp_path):
    rows = [{"title": "x", "dialog": [USER, ANSWER], "text": "y"}]
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert read(rows, chat_tokenizer, column="dialog").tokens == 5
    assert read(f"{tmp_path / 'a.jsonl'}:dialog", chat_tokenizer).tokens == 5


def test_lists_of_chats_need_no_column(chat_tokenizer):
    assert read([[USER, ANSWER], [USER, ANSWER]], chat_tokenizer).tokens == 10


def test_one_preference_data_set_has_two_sides(chat_tokenizer):
    rows = [{"prompt": "Hi?", "chosen": "Yes.", "rejected": "No"}, {"prompt": "So?", "chosen": "Sure.", "rejected": "Never."}]
    sides = {side: read(rows, chat_tokenizer, side=side) for side in ("retain", "forget")}
    said = {side: chat_tokenizer.decode(blocks.input_ids[blocks.answers]) for side, blocks in sides.items()}
    assert said == {"retain": "Yes.<eos>Sure.<eos>", "forget": "No<eos>Never.<eos>"}


def test_a_label_says_which_side_a_completion_is_on(chat_tokenizer):
    rows = [{"prompt": "Hi?", "completion": text, "label": label} for text, label in (("Yes.", True), ("No", False))]
    blocks = read(rows, chat_tokenizer, side="forget")
    assert chat_tokenizer.decode(blocks.input_ids[blocks.answers]) == "No<eos>"
    with pytest.raises(CorpusError, match="Only preference data sets have sides"):
        corpus([{"text": "a"}], side="forget")


def test_long_rows_are_cut_from_their_end_and_counted(tokenizer):
    blocks = token_blocks(corpus([{"prompt": "p" * 30, "completion": "c" * 19}], split="all"), tokenizer, block_size=16)
    assert blocks.attention_mask.sum(1).tolist() == [16, 16]
    assert tokenizer.decode(blocks.input_ids[blocks.answers]) == "c" * 19 + "<eos>"
    assert "1 pair longer than a block in several" in blocks.understood


def test_rows_without_an_answer_are_left_out_and_counted(chat_tokenizer):
    blocks = read([{"messages": [USER, ANSWER]}, {"messages": [USER, ANSWER, USER]}, {"messages": [USER]}], chat_tokenizer)
    assert len(blocks.input_ids) == 2
    with pytest.raises(CorpusError, match="has 0 tokens|none with an answer"):
        read([{"messages": [USER]}], chat_tokenizer)
    nothing = {"input_ids": IDS, "labels": [IGNORED] * 5}
    assert (
        "1 tokenized row without an answer left out"
        in read([nothing, SHAPES["tokens with labels"][0]], chat_tokenizer).understood
    )


def test_one_line_says_what_was_understood(chat_tokenizer):
    blocks = read([{"messages": [USER, ANSWER]}] * 100, chat_tokenizer)
    total = int(blocks.attention_mask.sum())
    assert blocks.understood == f"100 chats, template of toy-chat, 500 answer tokens of {total:,}"
    assert blocks.record()["understood"] == blocks.understood and blocks.record()["tokens"] == 500


def test_rows_of_another_tokenizer_are_refused(tokenizer):
    with pytest.raises(CorpusError, match="tokenized by the model's own tokenizer.*holds the id 100000"):
        read([{"input_ids": [1, 100_000], "labels": [1, 2]}], tokenizer)
    with pytest.raises(CorpusError, match="one value per token"):
        corpus([{"input_ids": [1, 2], "labels": [1]}])


def test_rows_of_no_known_shape_are_refused_with_the_shapes_that_are_known():
    with pytest.raises(CorpusError, match="Its columns are `q`, `a`; rows are understood when they have `text`; `messages`"):
        corpus([{"q": "Hi?", "a": "Yes."}])
    late = corpus([{"messages": [USER, ANSWER]}] * 101 + [{"messages": "x"}])
    with pytest.raises(CorpusError, match="row 101 of `rows` holds str in `messages`"):
        list(late.read())


def test_images_in_a_chat_are_refused_with_a_sentence():
    with pytest.raises(CorpusError, match="Messages must be text, but row 0 of `rows` has image in one"):
        corpus([{"messages": [{"role": "user", "content": [{"type": "image"}]}, ANSWER]}])


def test_a_template_that_refuses_a_chat_says_so_in_a_sentence(chat_tokenizer):
    changed = deepcopy(chat_tokenizer)
    changed.chat_template = "{{ raise_exception('only one turn') }}"
    with pytest.raises(CorpusError, match="template of toy-chat refuses a chat with the roles user, assistant: only one turn"):
        read([{"messages": [USER, ANSWER]}], changed)
