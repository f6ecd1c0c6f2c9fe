"""Which tokens of a chat are answers: by the marks of a template, or by what every turn adds to those before it."""

import re
from copy import deepcopy
from pathlib import Path

import pytest
from chat_templates import CHATML, FORGETFUL, MARKED

from hf_untangle.data.chat_templates import encoded_chat
from hf_untangle.data.documents import Chat

CHAT = (
    {"role": "user", "content": "What is 2+2?"},
    {"role": "assistant", "content": "It is 4."},
    {"role": "user", "content": "And 3+3?"},
    {"role": "assistant", "content": "6, of course.\nReally."},
)


def answers_of(template, tokenizer, messages=CHAT, given=None, **how):
    changed = deepcopy(tokenizer)
    changed.chat_template = template
    ids, answers = encoded_chat(Chat(tuple(messages), given, **how), changed)
    return changed.decode([one for one, wanted in zip(ids, answers, strict=True) if wanted]), ids, answers


def test_prefix_differences_find_what_marks_say(tokenizer):
    by_marks, by_differences = (answers_of(template, tokenizer) for template in (MARKED, CHATML))
    assert by_marks == by_differences
    assert by_marks[0] == "It is 4.<eos>6, of course.\nReally.<eos>"


def test_without_offsets_the_same_answers_are_found(tokenizer, monkeypatch):
    expected = answers_of(CHATML, tokenizer)
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    assert answers_of(CHATML, tokenizer) == expected == answers_of(MARKED, tokenizer)


def test_an_earlier_turn_that_is_written_differently_than_a_last_one_is_found_by_its_content(tokenizer):
    text, _, _ = answers_of(FORGETFUL, tokenizer)
    assert text == "It is 4.<eos>(thinking)6, of course.\nReally.<eos>"


@pytest.mark.parametrize("template", [CHATML, MARKED, FORGETFUL])
def test_of_a_prompt_with_a_completion_all_of_the_completion_is_the_answer(template, tokenizer):
    text, ids, answers = answers_of(template, tokenizer, given=3)
    assert text.removeprefix("(thinking)") == "6, of course.\nReally.<eos>"
    assert answers == sorted(answers) and len(ids) == len(answers)


@pytest.mark.parametrize("first", ["assistant", "system"])
def test_a_chat_may_begin_with_any_role(first, tokenizer):
    text, _, _ = answers_of(CHATML, tokenizer, ({"role": first, "content": "Hello."}, *CHAT))
    assert text.endswith("It is 4.<eos>6, of course.\nReally.<eos>")
    assert text.startswith("Hello.<eos>") == (first == "assistant")


def templates_of_trl() -> list[str]:
    """The names of chat templates that trl has in two forms: as published, and with marks to train by."""
    trl = pytest.importorskip("trl", reason="trl is in the extra `trl`")
    folder = Path(trl.__file__).parent / "chat_templates"
    return sorted(file.name.removesuffix("_training.jinja") for file in folder.glob("*_training.jinja"))


def with_special_tokens(tokenizer, template):
    """The tokenizer, with the special tokens that a template writes."""
    changed = deepcopy(tokenizer)
    special = sorted(set(re.findall(r"<[|｜]?[A-Za-z_/][^\s<>'\"]*[|｜]?>", template)) - set(changed.get_vocab()))
    changed.add_special_tokens({"additional_special_tokens": special})
    return changed


def test_masks_are_those_of_trl_on_its_own_templates(tokenizer):
    """Where trl's template to train by writes the same tokens, content and end of turn are answers in both.

    A template to train by may count a part of the header of a turn too, which the model is given when it is to answer.
    """
    names = templates_of_trl()
    import trl

    folder = Path(trl.__file__).parent / "chat_templates"
    compared, equal = [], []
    for name in names:
        published, training = ((folder / f"{name}{kind}.jinja").read_text() for kind in ("", "_training"))
        try:
            changed = with_special_tokens(tokenizer, published)
            changed.chat_template = published
            ids, answers = encoded_chat(Chat(CHAT), changed)
            changed.chat_template = training
            marked = changed.apply_chat_template(list(CHAT), tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
        except Exception:  # A few take pictures, or other roles.
            continue
        if list(marked["input_ids"]) != ids:
            continue
        compared.append(name)
        masks = list(map(bool, marked["assistant_masks"]))
        if masks == answers:
            equal.append(name)
        # What differs stands between the beginning of a turn and its content.
        differ = changed.decode([one for one, mine, theirs in zip(ids, answers, masks, strict=True) if mine != theirs])
        assert not any(word in differ for word in ("It is 4.", "of course", "What is", "And 3")), (name, differ)
        assert not any(mine and not theirs for mine, theirs in zip(answers, masks, strict=True)), name
    assert {"gemma3", "phi3", "qwen3_instruct_2507", "smolvlm", "cohere"} <= set(equal)
    assert len(compared) >= 20


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_rows_are_tokenized_as_trl_tokenizes_them(template, tokenizer):
    """The columns of trl's SFTTrainer: the assistant mask of messages, and the completion mask of prompts and completions."""
    data_utils = pytest.importorskip("trl.data_utils", reason="trl is in the extra `trl`")
    changed = deepcopy(tokenizer)
    changed.chat_template = template
    ids, answers = encoded_chat(Chat(CHAT), changed)
    theirs = data_utils._tokenize(changed, list(CHAT), return_assistant_tokens_mask=template == MARKED)
    assert list(theirs["input_ids"]) == ids
    if template == MARKED:
        assert list(map(bool, theirs["assistant_masks"])) == answers

    prompt, whole = CHAT[:3], CHAT
    before = data_utils._tokenize(changed, list(prompt), add_generation_prompt=True)["input_ids"]
    after = data_utils._tokenize(changed, list(whole))["input_ids"]
    start = data_utils.common_prefix_length(before, after)
    ids, answers = encoded_chat(Chat(CHAT, given=3), changed)
    assert (ids, answers) == (list(after), [False] * start + [True] * (len(after) - start))
