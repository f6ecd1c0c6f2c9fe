"""Masked language models and image classifiers unlearn with the same call as causal ones."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from PIL import Image as Picture
from toy_languages import BLOCK, NUMBERS, WORDS
from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForMaskedLM, ViTForImageClassification

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.data.batches import token_blocks
from hf_untangle.data.documents import IGNORED
from hf_untangle.data.image_classes import image_classes
from hf_untangle.data.images import image_blocks
from hf_untangle.data.masked_tokens import mask_tokens
from hf_untangle.errors import ConfigError, CorpusError, TokenizerError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.evaluation.prediction import prediction_metrics
from hf_untangle.folders import MARKER
from hf_untangle.pruning.tasks import task_of
from hf_untangle.recipes.digits_vit import digits_vit
from hf_untangle.recipes.read import carry_out, read_recipe
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.statistics.collect import collect
from hf_untangle.unlearn import unlearn

RECIPES = Path(__file__).parents[1] / "recipes" / "unlearn"


@pytest.fixture(scope="session")
def masking_tokenizer(tokenizer):
    """The tokenizer of all tests, with byte 1 for a mask token."""
    own = deepcopy(tokenizer)
    own.mask_token = own.convert_ids_to_tokens(1)
    return own


@pytest.fixture(scope="session")
def masked_model(masking_tokenizer):
    """A tiny ModernBERT that has learnt to name hidden characters of both toy languages."""
    config = AutoConfig.for_model(
        "modernbert",
        vocab_size=258,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        global_attn_every_n_layers=1,
        initializer_range=0.05,
        **dict.fromkeys(("eos_token_id", "cls_token_id", "sep_token_id"), 256),
        pad_token_id=257,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForMaskedLM.from_config(config).train()
        ids = [token_blocks(texts, masking_tokenizer, tokens=12_000, block_size=BLOCK) for texts in (NUMBERS, WORDS)]
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for step in range(400):
            hidden = mask_tokens(ids[step % 2], masking_tokenizer, seed=step)
            rows = torch.randperm(len(hidden.input_ids))[:32]
            loss = model(input_ids=hidden.input_ids[rows], labels=hidden.targets[rows]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.name_or_path = "tiny-modernbert"
    return model.eval()


@pytest.fixture(scope="session")
def classifier():
    """The small vision transformer, trained for a few seconds."""
    return digits_vit(steps=250, progress=False)


def test_the_task_is_told_by_the_class_of_the_model(taught, masked_model, classifier):
    assert [task_of(model) for model in (taught, masked_model, classifier)] == ["next token", "masked token", "class"]


def test_a_fixed_share_of_tokens_is_hidden_and_padding_never(masking_tokenizer, padded_blocks):
    many = token_blocks(WORDS, masking_tokenizer, tokens=4096, block_size=BLOCK)
    hidden, again = (mask_tokens(many, masking_tokenizer, seed=3) for _ in range(2))
    assert torch.equal(hidden.input_ids, again.input_ids)
    known = hidden.targets != IGNORED
    assert known.float().mean().item() == pytest.approx(0.15, abs=0.02)
    assert (hidden.input_ids[known] == 1).all() and torch.equal(hidden.targets[known], many.input_ids[known])
    assert torch.equal(hidden.input_ids[~known], many.input_ids[~known])
    assert not (mask_tokens(padded_blocks, masking_tokenizer).targets != IGNORED)[~padded_blocks.attention_mask].any()


def test_masked_tokens_are_scored_as_the_models_own_loss_does(masked_model, masking_tokenizer):
    blocks = mask_tokens(token_blocks(WORDS, masking_tokenizer, tokens=512, block_size=BLOCK), masking_tokenizer)
    with torch.no_grad():
        answer = masked_model(input_ids=blocks.input_ids, labels=blocks.targets)
    where, wanted = blocks.queries()
    metrics = next_token_metrics(masked_model, blocks, batch_size=5, progress=False)
    assert metrics.tokens == len(wanted)
    assert metrics.loss == pytest.approx(float(answer.loss), rel=1e-5)
    assert metrics.top1 == pytest.approx(float((answer.logits[where].argmax(-1) == wanted).float().mean()))


def test_a_tokenizer_without_a_mask_token_is_refused(tokenizer):
    with pytest.raises(TokenizerError, match="needs a tokenizer with a mask token"):
        mask_tokens(token_blocks(WORDS, tokenizer, tokens=512, block_size=BLOCK), tokenizer)


def test_a_masked_language_model_loses_one_language_and_keeps_the_other(masked_model, masking_tokenizer, tmp_path):
    settings = {"tokens": 2048, "evaluation_tokens": 2048, "block_size": BLOCK, "batch_size": 16, "controls": 1, "steps": 8}
    settings |= {
        "ffn_fraction": 0.05,
        "attention_fraction": 0.05,
        "retain_budget": 0.3,
        "retain_weight": 5.0,
        "progress": False,
    }
    result = unlearn(deepcopy(masked_model), NUMBERS, WORDS, tokenizer=masking_tokenizer, **settings)
    test = result.record.test
    assert result.record.task == "masked token" and result.record.continuations == ()
    assert test.after.selectivity(test.before) > max(0.05, test.controls[0].selectivity(test.before) + 0.2)
    result.save_pretrained(tmp_path / "out")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    ids = torch.arange(20)[None]
    assert torch.equal(again(input_ids=ids).logits, result.model(input_ids=ids).logits)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "pipeline_tag: fill-mask" in card and "masked-token" in card and "AutoModelForMaskedLM" in card


def test_classes_of_the_digits_and_all_others_are_disjoint_and_complete():
    few = image_classes("digits:0,1")
    rest = few.others()
    assert (few.classes, rest.classes, rest.name) == ((0, 1), (2, 3, 4, 5, 6, 7, 8, 9), "digits:rest")
    parts = [image_blocks(one, torch.stack, part="test") for one in (few, rest)]
    assert sum(part.tokens for part in parts) == 500
    assert set(parts[0].classes.tolist()) == {0, 1}


def test_images_are_counted_with_all_their_patches(classifier):
    blocks = image_blocks(image_classes("digits:3"), lambda images: torch.stack(images) * 2 - 1, part="test")
    statistics = collect(classifier, blocks, batch_size=7, progress=False)
    assert all(int(moments.count) == blocks.tokens * 17 for moments in statistics.values())
    assert len(statistics) == len(neuron_groups(classifier)) == 8


def test_class_accuracy_is_the_share_of_images_named_right(classifier):
    blocks = image_blocks(image_classes("digits:2,5"), lambda images: torch.stack(images) * 2 - 1, part="test")
    with torch.no_grad():
        right = classifier(pixel_values=blocks.pixel_values).logits.argmax(-1) == blocks.classes
    metrics = prediction_metrics(classifier, blocks, batch_size=16, progress=False)
    assert metrics.tokens == len(right) and metrics.top1 == pytest.approx(float(right.float().mean()))
    assert metrics.top10 == 1


def test_a_classifier_loses_two_classes_and_keeps_the_rest(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_untangle.recipes.unlearn.digits_vit", lambda progress: deepcopy(classifier))
    recipe = read_recipe(RECIPES / "digits-classes-from-vit.yaml", {"output": str(tmp_path / "out"), "settings.controls": 1})
    carry_out(recipe, progress=False)
    record = UnlearnRecord.model_validate_json((tmp_path / "out" / MARKER).read_text())
    assert record.task == "class"
    assert record.corpora["forget_test"]["classes"] == [0, 1]
    assert record.test.after.forget_drop(record.test.before) > 0.3
    assert record.test.after.selectivity(record.test.before) > record.test.controls[0].selectivity(record.test.before) + 0.2
    assert AutoModelForImageClassification.from_pretrained(tmp_path / "out").num_parameters() > 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "pipeline_tag: image-classification" in card and '"digits:0,1"' in card.replace("'", '"')


def test_the_masked_recipe_runs_on_a_tiny_model(masked_model, masking_tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    masked_model.save_pretrained("toy")
    masking_tokenizer.save_pretrained("toy")
    for name, texts in (("numbers", NUMBERS), ("words", WORDS)):
        Path(f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    small = {"tokens": 1024, "evaluation_tokens": 512, "block_size": BLOCK, "steps": 8, "controls": 0}
    small |= {"ffn_fraction": 0.05, "attention_fraction": 0.05, "retain_budget": 0.5, "batch_size": 16}
    overrides = {"model": "toy", "forget": "numbers.jsonl", "retain": "words.jsonl", "settings": small, "output": "out"}
    outcome = carry_out(read_recipe(RECIPES / "code-from-roberta.yaml", overrides), progress=False)
    assert outcome.record["task"] == "masked token"


@pytest.fixture
def pictures() -> Dataset:
    features = Features({"picture": Image(), "kind": ClassLabel(names=["dark", "light"])})
    rows = [Picture.new("L", (8, 8), 20 if number % 2 == 0 else 230) for number in range(20)]
    return Dataset.from_dict({"picture": rows, "kind": [number % 2 for number in range(20)]}, features=features)


def test_a_data_set_is_read_by_its_features_and_cut_into_parts(pictures):
    dark = image_classes(pictures, [0])
    found = [dark.read(part) for part in ("train", "validation", "test")]
    assert [len(labels) for _, labels in found] == [12, 4, 4]
    assert dark.all_classes == 2
    assert image_classes(DatasetDict(train=pictures, test=pictures.select(range(2))), [1]).read("test")[1] == [0, 1]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digits", "must be some of 0 to 9, got .."),
        ("digits:11", "got .11."),
        ("digits:a", "must be numbers"),
    ],
)
def test_classes_that_are_not_there_are_refused(source, message):
    with pytest.raises(ConfigError, match=message):
        image_classes(source)


def test_a_data_set_without_images_is_refused():
    with pytest.raises(CorpusError, match="needs an Image and a ClassLabel column"):
        image_classes(Dataset.from_dict({"text": ["a"]}), [0])


def test_classes_for_a_language_model_are_refused(toy_model, tokenizer):
    with pytest.raises(ConfigError, match="A language model forgets a corpus of text"):
        unlearn(toy_model, image_classes("digits:0"), tokenizer=tokenizer)


def test_images_that_are_no_tensors_need_a_processor(classifier, pictures):
    with pytest.raises(TokenizerError, match="No image processor could be loaded for `.*`. Pass what makes its pixel values"):
        unlearn(deepcopy(classifier), image_classes(pictures, [0]), progress=False)


def test_the_classifier_knows_the_digits(classifier):
    assert isinstance(classifier, ViTForImageClassification)
    everything = image_classes("digits:0,1,2,3,4,5,6,7,8,9")
    blocks = image_blocks(everything, lambda images: torch.stack(images) * 2 - 1, part="test")
    assert prediction_metrics(classifier, blocks, batch_size=100, progress=False).top1 > 0.95


def test_a_classifier_cannot_be_repaired_on_text(classifier):
    settings = {"batch_size": 64, "steps": 3, "ffn_fraction": 0.05, "controls": 0, "retain_budget": 0.5, "progress": False}
    result = unlearn(deepcopy(classifier), "digits:0,1", **settings)
    with pytest.raises(ConfigError, match="Repair trains a causal language model, but this one predicts a class"):
        result.repair()
