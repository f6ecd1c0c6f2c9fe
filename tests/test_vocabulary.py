"""Cut vocabularies: texts are cut into the same tokens, every text can be written, and kept tokens mean what they meant."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from toy_languages import NUMBERS, WORDS
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from typer.testing import CliRunner

from hf_untangle.cli.main import app
from hf_untangle.compaction import cut_vocabulary
from hf_untangle.compaction.bpe import parents_of, with_parents
from hf_untangle.errors import CompactionError, ConfigError
from hf_untangle.recipes.read import carry_out, read_recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "vocabulary" / "smollm2-for-prose.yaml"
SPECIAL = ["<bos>", "<eos>", "<unk>", "<pad>"]
STRANGE = "Zürich 東京 🙂 <eos> 12 cats\tsat\n\n  on def f(x): return x**2"
TEXTS = [*NUMBERS[:100], *WORDS[:100], "Zürich überholte the naïve xylophone"] * 2


def fast(backend: Tokenizer) -> PreTrainedTokenizerFast:
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2, Llama 3, Qwen and SmolLM2, with a BOS that a template puts before a text."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    # An added token has the last id of all.
    backend.add_special_tokens([AddedToken("<tool>", special=True)])
    backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    return fast(backend)


def with_byte_fallback() -> PreTrainedTokenizerFast:
    """As Llama 2, Mistral and Gemma: characters, and bytes for those that it does not know."""
    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    trained.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=480, special_tokens=special, show_progress=False))
    # Bytes are no special tokens there, which the trainer would make of them.
    content = json.loads(trained.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] in SPECIAL]
    backend = Tokenizer.from_str(json.dumps(content))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    backend.post_processor = processors.Sequence(
        [processors.BertProcessing(("<eos>", 1), ("<bos>", 0)), processors.ByteLevel(trim_offsets=False)]
    )
    return fast(backend)


@pytest.fixture(scope="module", params=[byte_level, with_byte_fallback], ids=lambda one: one.__name__)
def whole(request) -> PreTrainedTokenizerFast:
    return request.param()


@pytest.fixture(params=["llama", "gpt2"])
def model(request, tiny_model, whole):
    """Whose head is tied to its embedding, or not; its embedding has more rows than there are tokens."""
    settings = {"vocab_size": 512, "bos_token_id": 0, "eos_token_id": [1, 3], "pad_token_id": 3}
    return tiny_model(request.param, tie_word_embeddings=request.param == "gpt2", **settings)


def ids_of(tokenizer, text: str) -> list[int]:
    return tokenizer(text)["input_ids"]


def test_texts_of_the_corpus_are_cut_into_the_same_tokens(model, whole, untouched):
    with untouched(model):
        small = cut_vocabulary(model, {"train": WORDS, "test": NUMBERS}, tokenizer=whole)
    assert len(small.tokenizer) == len(small.old_ids) < len(whole)
    for text in WORDS[:50]:
        assert small.old_ids[ids_of(small.tokenizer, text)].tolist() == ids_of(whole, text)


def test_every_text_can_still_be_written(model, whole):
    small = cut_vocabulary(model, {"train": WORDS, "test": NUMBERS}, tokenizer=whole).tokenizer
    for text in (STRANGE, *NUMBERS[:20]):
        assert small.decode(ids_of(small, text), skip_special_tokens=True) == whole.decode(
            ids_of(whole, text), skip_special_tokens=True
        )
        assert len(ids_of(small, text)) >= len(ids_of(whole, text))


def test_the_smaller_model_says_of_kept_tokens_what_the_whole_one_says(model, whole):
    small = cut_vocabulary(model, {"train": WORDS, "test": NUMBERS}, tokenizer=whole)
    ids = torch.tensor([ids_of(small.tokenizer, WORDS[0])])
    with torch.no_grad():
        expected = model(small.old_ids[ids]).logits[..., small.old_ids]
        torch.testing.assert_close(small.model(ids).logits, expected)
    gone = model.config.vocab_size - len(small.old_ids)
    matrices = 1 if model.config.tie_word_embeddings else 2
    assert model.num_parameters() - small.model.num_parameters() == matrices * gone * model.config.hidden_size


def test_model_and_tokenizer_load_with_plain_transformers(model, whole, tmp_path):
    small = cut_vocabulary(model, {"train": WORDS, "test": NUMBERS}, tokenizer=whole)
    small.model.save_pretrained(tmp_path)
    small.tokenizer.save_pretrained(tmp_path)
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = torch.tensor([ids_of(tokenizer, STRANGE)])
    assert ids.tolist() == [ids_of(small.tokenizer, STRANGE)]
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, small.model(ids).logits)
    assert loaded.config.vocab_size == len(small.old_ids) == len(tokenizer)


def test_special_tokens_and_the_ids_in_the_settings_move_along(model, whole):
    small = cut_vocabulary(model, {"train": WORDS, "test": NUMBERS}, tokenizer=whole)
    new = small.tokenizer.convert_tokens_to_ids(SPECIAL)
    assert small.old_ids[new].tolist() == whole.convert_tokens_to_ids(SPECIAL)
    bos, eos, _, pad = new
    for settings in (small.model.config, small.model.generation_config):
        assert (settings.bos_token_id, settings.eos_token_id, settings.pad_token_id) == (bos, [eos, pad], pad)
    if "<tool>" in whole.get_vocab():
        assert small.tokenizer.convert_tokens_to_ids("<tool>") == len(small.old_ids) - 1
    assert model.config.eos_token_id == [1, 3]


def test_a_size_that_the_text_does_not_fill_is_filled_by_the_first_merges(tiny_model):
    whole = byte_level()
    model = tiny_model("llama", vocab_size=512)
    needed = set(cut_vocabulary(model, {"train": WORDS[:2], "test": WORDS}, tokenizer=whole).old_ids.tolist())
    small = cut_vocabulary(model, {"train": WORDS[:2], "test": WORDS}, tokenizer=whole, size=len(needed) + 20)
    more = sorted(set(small.old_ids.tolist()) - needed)
    # Every token stays that was merged before the last one that came to those of the text.
    assert len(more) == 20
    assert set(range(more[-1])) <= set(small.old_ids.tolist())


def test_a_size_keeps_the_most_frequent_tokens(tiny_model):
    whole = byte_level()
    model = tiny_model("llama", vocab_size=512)
    needed = len(cut_vocabulary(model, {"train": WORDS, "test": WORDS}, tokenizer=whole).old_ids)
    small = cut_vocabulary(model, {"train": WORDS, "test": WORDS}, tokenizer=whole, size=needed - 20)
    assert needed - 24 <= len(small.old_ids) <= needed - 20
    used = [sum(len(ids_of(one, text)) for text in WORDS) for one in (whole, small.tokenizer)]
    bytes_alone = cut_vocabulary(model, {"train": WORDS, "test": WORDS}, tokenizer=whole, size=261).tokenizer
    assert used[0] < used[1] < sum(len(ids_of(bytes_alone, text)) for text in WORDS) / 2
    with pytest.raises(
        ConfigError, match="must leave room for the 261 bytes and special tokens that have to stay, got size=20"
    ):
        cut_vocabulary(model, {"train": WORDS, "test": WORDS}, tokenizer=whole, size=20)


def test_parents_are_found_through_every_merge():
    merges = [["a", "b"], ["b", "c"], ["ab", "c"], "a bc", ["x", "y"]]
    content = {"model": {"type": "BPE", "vocab": {}, "merges": merges}}
    assert with_parents(parents_of(content), ["abc"]) == {"a", "b", "c", "ab", "bc", "abc"}
    assert with_parents(parents_of(content), ["a"]) == {"a"}


def test_other_tokenizers_are_refused(tiny_model, tokenizer):
    with pytest.raises(CompactionError, match=r"merged pairs \(BPE\), but this tokenizer is WordLevel"):
        cut_vocabulary(tiny_model("llama"), WORDS, tokenizer=tokenizer)


def test_a_model_with_more_tensors_by_token_is_refused(tiny_model, untouched):
    model = tiny_model("llama", vocab_size=512)
    model.lm_head.register_buffer("by_token", torch.zeros(512))
    with untouched(model), pytest.raises(CompactionError, match="`lm_head.by_token` of this LlamaForCausalLM changes"):
        cut_vocabulary(model, WORDS, tokenizer=byte_level())


def test_a_tokenizer_that_changes_texts_is_refused(tiny_model, monkeypatch):
    def broken(content, new_ids):
        from hf_untangle.compaction.bpe import cut_tokenizer

        return cut_tokenizer(content, new_ids) | {"decoder": None}

    monkeypatch.setattr("hf_untangle.compaction.vocabulary.cut_tokenizer", broken)
    model = tiny_model("llama", vocab_size=512)
    before = deepcopy(model.state_dict())
    with pytest.raises(CompactionError, match="comes back changed"):
        cut_vocabulary(model, WORDS, tokenizer=byte_level())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_our_own_recipe_and_the_command_write_a_checkpoint_that_loads(tiny_model, tmp_path):
    whole = byte_level()
    tiny_model("llama", vocab_size=512).save_pretrained(tmp_path / "toy")
    whole.save_pretrained(tmp_path / "toy")
    (tmp_path / "words.jsonl").write_text("\n".join(json.dumps({"text": words}) for words in WORDS))
    places = {"model": str(tmp_path / "toy"), "data": str(tmp_path / "words.jsonl")}
    record = carry_out(read_recipe(RECIPE, places | {"size": 400, "output": str(tmp_path / "out")})).record
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert record["tokens_after"] == len(tokenizer) == loaded.config.vocab_size < record["tokens_before"] == len(whole)
    assert record["parameters_after"] == loaded.num_parameters()
    command = ["vocabulary", places["model"], "--data", places["data"], "--size", "300", "-o", str(tmp_path / "smaller")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert (
        f"{len(whole):,} tokens became" in done.stdout and "from_pretrained loads model and tokenizer anywhere" in done.stdout
    )
    assert len(AutoTokenizer.from_pretrained(tmp_path / "smaller")) <= 300
