"""Text that a model writes itself, as a corpus to retain."""

import math
from contextlib import contextmanager

import pytest
import tokenizers
import torch
from toy_languages import NUMBERS, SMALL, WORDS
from transformers import PreTrainedTokenizerFast

import hf_untangle as untangle
from hf_untangle.data.corpora import corpus
from hf_untangle.errors import ConfigError, CorpusError, MaskError
from hf_untangle.evaluation import self_written as writing
from hf_untangle.evaluation.next_token import NextTokenMetrics
from hf_untangle.evaluation.self_written import own_text
from hf_untangle.pruning.budget import is_inside
from hf_untangle.records.scores import Scores
from hf_untangle.results.reading import read_result

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}|{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
LOOSE = {"retain_budget": 1.0, "perplexity_budget": math.inf, "controls": 0, "steps": 1}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_UNTANGLE_CACHE", str(tmp_path))
    return tmp_path


def texts_of(one) -> list[str]:
    return [text for part in ("train", "validation", "test") for text in one.documents(part)]


def digits(texts: list[str]) -> float:
    written = "".join(texts)
    return sum(letter.isdigit() for letter in written) / len(written)


def test_a_model_writes_what_it_knows_and_is_left_as_it_was(toy_model, tokenizer, untouched):
    state = torch.get_rng_state()
    with untouched(toy_model):
        written = own_text(toy_model, tokenizer, texts=20)
    assert torch.equal(torch.get_rng_state(), state)
    assert (written.name, written.origin) == ("self", "self")
    assert [len(list(written.documents(part))) for part in ("train", "validation", "test")] == [12, 4, 4]
    assert len(set(texts_of(written))) > 10
    # It knows two languages, one of them of digits; letters it has never seen are not in its text.
    assert 0.1 < digits(texts_of(written)) < 0.9
    known = set("".join([*NUMBERS, *WORDS])) | set(map(chr, range(65, 91)))
    assert sum(letter in known for text in texts_of(written) for letter in text) > 0.9 * sum(map(len, texts_of(written)))


def test_the_same_seed_writes_the_same_and_it_is_kept(toy_model, tokenizer, monkeypatch, cache):
    first, other = own_text(toy_model, tokenizer, texts=6), own_text(toy_model, tokenizer, texts=6, seed=1)
    assert texts_of(first) != texts_of(other)

    def write(*_: object) -> list[str]:
        raise AssertionError("it was there")

    for file in cache.rglob("*.json"):
        file.unlink()
    assert texts_of(own_text(toy_model, tokenizer, texts=6)) == texts_of(first)
    monkeypatch.setattr(writing, "_write", write)
    assert texts_of(own_text(toy_model, tokenizer, texts=6)) == texts_of(first)


@pytest.mark.parametrize("content", [b"[1, 2]", b"{", b"\xff", b'{"a": 1}'])
def test_a_damaged_file_costs_time_alone(toy_model, tokenizer, cache, caplog, content):
    first = own_text(toy_model, tokenizer, texts=6)
    (file,) = cache.rglob("*.json")
    file.write_bytes(content)
    assert texts_of(own_text(toy_model, tokenizer, texts=6)) == texts_of(first)
    assert "writes its texts again" in caplog.text


def test_what_is_like_the_forget_corpus_is_left_out(toy_model, tokenizer):
    every = own_text(toy_model, tokenizer, texts=40)
    without = own_text(toy_model, tokenizer, texts=40, unlike=corpus(NUMBERS))
    assert 3 < len(texts_of(without)) < len(texts_of(every))
    assert digits(texts_of(without)) < digits(texts_of(every)) / 2


def test_a_chat_model_asks_and_answers_itself(toy_model, tokenizer):
    tokenizer.chat_template = TEMPLATE
    try:
        chats = [text for text in texts_of(own_text(toy_model, tokenizer, texts=12)) if text.startswith("<user>")]
    finally:
        tokenizer.chat_template = None
    assert len(chats) == 4
    assert all("|<assistant>" in text for text in chats)


def test_words_follow_bos_where_every_text_of_the_model_does(toy_model, tokenizer, monkeypatch):
    seen = []

    @contextmanager
    def sampling(*_):
        yield lambda prompts, length: seen.extend(prompts) or ["a text"] * len(prompts)

    monkeypatch.setattr(writing, "_sampling", sampling)
    own_text(toy_model, tokenizer, texts=4)
    assert [len(prompt) for prompt in seen] == [1] * 4
    monkeypatch.setattr(writing, "bos_prefix", lambda tokenizer: [7])
    own_text(toy_model, tokenizer, texts=4)
    assert [prompt[0] for prompt in seen[-2:]] == [7, 7] and [len(prompt) for prompt in seen[4:]] == [1, 1, 2, 2]


def test_bad_settings_are_refused(toy_model, tokenizer):
    with pytest.raises(ConfigError, match="above 0, got texts=0"):
        own_text(toy_model, tokenizer, texts=0)
    with pytest.raises(CorpusError, match="of 2 that the model wrote 2 are left"):
        own_text(toy_model, tokenizer, texts=2)
    with pytest.raises(CorpusError, match="`self` is written by a model"):
        untangle.collect(toy_model, "self", tokenizer=tokenizer, progress=False)


def test_unlearning_may_retain_what_the_model_writes(toy_model, tokenizer):
    how = SMALL | LOOSE
    result = untangle.unlearn(toy_model, NUMBERS, ["self", WORDS], method="prune", tokenizer=tokenizer, progress=False, **how)
    read = result.record.corpora["retain_train"]
    assert read["corpus"] == "self + strings (retain)" and "wrote itself" in read["source"]
    step = result.record.history.steps[0]
    assert set(dict(step.scores.members)) == {"self", "strings (retain)"}
    together = sum(one.tokens * one.top1 for one in dict(step.scores.members).values())
    assert step.scores.retain.top1 == pytest.approx(together / step.scores.retain.tokens)
    drops = {one.name: one.before.top1 - one.after.top1 for one in result.record.test.by_corpus}
    assert set(drops) == {"self", "strings (retain)"}


def test_pruning_needs_no_text_but_the_models_own(toy_model, tokenizer):
    plan = untangle.plan(toy_model, "self", tokenizer=tokenizer, ratio=0.2, progress=False, tokens=512, block_size=32)
    assert plan.corpus.origin == "self"
    assert plan.mask.removed("ffn") > 0


def of_words(texts: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each word of some texts, and many others."""
    known = dict.fromkeys(word for text in texts for word in text.split())
    words = [*known, *(f"other{n}" for n in range(50_000 - len(known)))]
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: number for number, word in enumerate(words)}, "other0"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=model)


def test_a_few_texts_are_told_from_the_forget_corpus_as_well_as_many():
    """Where the vocabulary is large and the texts are few, how seldom a word is in them says little."""
    code = [f"def f{n} ( x ) : return the g ( x ) of y and z" for n in range(300)]
    prose = ["the dog ran to the house of the man", "the man saw the sea and the ships", "a song of the sea and of the wind"]
    last = "def h ( x ) : return f1 ( x ) and g ( x )"
    assert writing._unlike([*prose, last], code, [], of_words([*code, *prose, last])) == prose


def test_texts_that_share_no_word_with_anything_are_not_like_the_forget_corpus():
    others = [" ".join(f"{language}{n}" for n in range(20)) for language in ("wort", "mot", "palabra")]
    code = [f"def f{n} ( x ) : return x" for n in range(100)]
    last = "def g ( x ) : return x"
    assert writing._unlike([*others, last], code, [], of_words([*others, *code, last])) == others


def test_a_few_lines_of_the_forget_corpus_in_a_long_text_are_enough():
    code = [f"def f{n} ( x ) : return the g ( x ) of y and z" for n in range(300)]
    prose = ["the dog ran to the house of the man and the man saw the sea " * 20, "a song of the sea and of the wind " * 20]
    mixed = prose[0] + "def h ( x ) : return f1 ( x ) and g ( x ) " * 3 + prose[1]
    assert writing._unlike([*prose, mixed], code, [], of_words([*code, *prose, mixed])) == prose


def test_what_is_retained_beside_tells_that_a_word_is_not_of_the_forget_corpus_alone():
    code = ["def f ( x ) : return the sea of x"] * 30
    texts = ["def the sea of the sea of the sea", "a wind", "a house", "a man"]
    words = of_words([*code, *texts])
    assert texts[0] not in writing._unlike(texts, code, [], words)
    assert writing._unlike(texts, code, ["the sea of def"] * 3000, words) == texts


def test_tokens_are_drawn_by_their_probabilities():
    """A thousand draws of each row: never one of probability 0, and the others within four standard errors."""
    scores = torch.tensor([[0.0, 1.0, -math.inf, 2.0], [-math.inf, -math.inf, 5.0, -math.inf]]).repeat_interleave(1000, 0)
    torch.manual_seed(0)
    drawn = writing._Draw(temperature=2.0)(torch.zeros(2000, 1, dtype=torch.long), scores).argmax(-1).view(2, 1000)
    shares = torch.stack([row.bincount(minlength=4) / 1000 for row in drawn])
    p = (scores[::1000] / 2).softmax(-1)
    assert (shares[p == 0] == 0).all()
    assert ((shares - p).abs() <= 4 * (p * (1 - p) / 1000).sqrt()).all()


def test_auto_keeps_what_it_can_where_the_model_writes_nothing_of_use(toy_model, tokenizer, capsys, monkeypatch):
    def nothing(*_: object) -> list[str]:
        return []

    monkeypatch.setattr(writing, "_write", nothing)
    how = SMALL | LOOSE | {"disruption_budget": 9.0, "learning_rate": 1e-3}
    result = untangle.unlearn(toy_model, NUMBERS, tokenizer=tokenizer, **how)
    assert "self: left out. A corpus needs a text for each of its 3 parts" in capsys.readouterr().err
    assert result.record.corpora["retain_train"]["corpus"] == "general"


def test_a_result_holds_the_text_that_it_retained(toy_model, tokenizer, tmp_path, monkeypatch):
    how = SMALL | LOOSE | {"disruption_budget": 9.0, "learning_rate": 1e-3}
    result = untangle.unlearn(toy_model, NUMBERS, tokenizer=tokenizer, progress=False, **how)
    folder = result.save_pretrained(tmp_path / "result")
    monkeypatch.setenv("HF_UNTANGLE_CACHE", str(tmp_path / "another"))
    again = read_result(folder, corpora={"forget": NUMBERS})
    assert again.record.corpora["retain_test"]["corpus"] == "general + self"
    assert again.held_out.retain.fingerprint == result.held_out.retain.fingerprint
    again.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "own-text.json").read_bytes() == (folder / "own-text.json").read_bytes()
    with pytest.raises(MaskError, match="trained weights, and its numbers would not be those of the adapter"):
        again.to_adapter(tmp_path / "adapter")
    (folder / "own-text.json").unlink()
    with pytest.raises(CorpusError, match="cannot be found by its name alone. Pass it again"):
        read_result(folder, corpora={"forget": NUMBERS})


def test_a_plan_for_the_models_own_text_is_read_back(toy_model, tokenizer, tmp_path):
    how = {"ratio": 0.1, "tokens": 512, "evaluation_tokens": 256, "block_size": 32, "progress": False}
    result = untangle.prune(toy_model, "self", tokenizer=tokenizer, **how)
    again = read_result(result.save_pretrained(tmp_path / "result"))
    assert again.held_out.fingerprint == result.held_out.fingerprint


def test_names_in_a_list_are_corpora():
    assert [one.name for one in corpus(["general", "self"]).members] == ["general", "self"]


def test_each_of_several_retain_corpora_has_the_budget():
    def metrics(top1: float, loss: float = 1.0) -> NextTokenMetrics:
        return NextTokenMetrics(100, top1, 1.0, loss)

    def scores(a: float, b: float, loss: float = 1.0) -> Scores:
        members = (("a", metrics(a)), ("b", metrics(b, loss)))
        return Scores(forget=metrics(0.5), retain=metrics((a + b) / 2, (1 + loss) / 2), members=members)

    base, config = scores(0.5, 0.5), untangle.UnlearnConfig(retain_budget=0.05, perplexity_budget=2)
    assert is_inside(scores(0.49, 0.48), base, config)
    uneven = scores(0.53, 0.46)
    assert uneven.retain_drop(base) < 0.05 < uneven.worst_retain_drop(base) == pytest.approx(0.08)
    assert not is_inside(uneven, base, config)
    assert not is_inside(scores(0.5, 0.5, 1.8), base, config), "exp(0.8) is above 2, exp(0.4) is not"
