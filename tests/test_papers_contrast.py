"""The k-contrast model and its experiment, on a few tiny models."""

import logging
from math import log

import pytest
import torch
from PIL import Image
from torch import Tensor

from hf_untangle.entropy.neuron_record import spread
from hf_untangle.errors import ConfigError, CorpusError, StatisticsError
from hf_untangle.papers.contrast import image_items, text_items
from hf_untangle.papers.contrast.augmentation import change_images, change_texts
from hf_untangle.papers.contrast.configuration import ContrastConfig
from hf_untangle.papers.contrast.contrast_config import PRESETS, ContrastExperimentConfig
from hf_untangle.papers.contrast.contrast_record import ContrastRecord
from hf_untangle.papers.contrast.contrast_training import TrainedContrast, train_contrast
from hf_untangle.papers.contrast.encoders import ItemSets
from hf_untangle.papers.contrast.experiment import measure_contrast, run_contrast
from hf_untangle.papers.contrast.measurement import accuracy, encode
from hf_untangle.papers.contrast.modeling import ContrastModel
from hf_untangle.papers.contrast.problems import draw_problems

SIZES = {"filters": [4], "embedding_size": 8, "hidden_size": 12, "num_hidden_layers": 1, "intermediate_size": 8}
QUICK = ContrastExperimentConfig(
    choices=3,
    bits=6,
    model=SIZES | {"augment": False},
    steps=400,
    learning_rate=1e-2,
    shares=(0.34, "low"),
    problems=256,
    seeds=1,
)


def squares(count: int = 64, seed: int = 0) -> Tensor:
    """Images of 5 x 5 with one of eight bright columns and rows, so that three bits tell them apart."""
    kind = torch.randint(8, (count,), generator=torch.Generator().manual_seed(seed))
    pictures = torch.zeros(count, 1, 5, 5, dtype=torch.uint8)
    for number, one in enumerate(kind.tolist()):
        pictures[number, 0, one % 5] = 255
        pictures[number, 0, :, one // 2] = 200
    return pictures


@pytest.fixture(scope="module")
def data() -> ItemSets:
    test = squares(seed=1)
    return ItemSets(squares(), {"squares": test, "negative": 255 - test}, {"image_size": 5, "channels": 1}, "squares")


@pytest.fixture(scope="module")
def experiment(data):
    return run_contrast(data, QUICK, progress=False)


def config(**changes) -> ContrastConfig:
    return ContrastConfig(**{"image_size": 5, "channels": 1, "bits": 6, **SIZES, **changes})


def test_a_trained_model_beats_chance_by_far_and_is_measured_on_every_set(experiment):
    record = experiment.record
    assert record.models[0].left_out is None
    assert record.models[0].of_chance < 0.8
    assert record.base("squares")[0] > 0.5 > 1 / 3
    assert {cell.set for cell in record.cells} == {"squares", "negative"}
    assert {cell.order for cell in record.cells} == {"bottom", "top", "random"}


def test_the_same_experiment_again_gives_the_same_record(data, experiment):
    assert run_contrast(data, QUICK, progress=False).record == experiment.record


def test_changes_are_accuracies_after_less_before(experiment):
    cell = experiment.record.cells[0]
    assert cell.change == cell.after - cell.before
    assert cell.masked == 2
    assert cell.change in experiment.record.changes(cell.set, cell.order, 0.34)


def test_a_record_survives_json(experiment):
    record = experiment.record
    assert ContrastRecord.model_validate_json(record.model_dump_json()) == record


def test_masking_all_bits_leaves_a_guesser(data, experiment):
    model = experiment.models[0]
    encoded = encode(model, data.sets["squares"])
    problems = draw_problems(len(encoded.bits), 3, 2000, seed=0)
    none = torch.zeros(6, dtype=torch.bool)
    # Where all messages are the same, places are told apart by their items alone, which says nothing about the label.
    assert accuracy(model, encoded, problems, none, torch.full((6,), 0.5)) == pytest.approx(1 / 3, abs=0.05)


def test_accuracy_from_encoded_items_is_that_of_the_whole_model(data, experiment):
    model, items = experiment.models[0], data.sets["squares"]
    problems = draw_problems(len(items), 3, 200, seed=0)
    shown = items[problems.choices]
    with torch.no_grad():
        logits = model(items[problems.answers], shown, problems.labels).logits
    expected = float((logits.argmax(-1) == problems.labels).float().mean())
    everything = torch.ones(6, dtype=torch.bool)
    assert accuracy(model, encode(model, items), problems, everything, torch.zeros(6)) == pytest.approx(expected)


@pytest.mark.parametrize("changes", [{}, {"modality": "text", "filters": [4, 6]}])
def test_a_saved_model_is_loaded_as_it_was(tmp_path, changes):
    torch.manual_seed(0)
    model = ContrastModel(config(**changes)).eval()
    model.save_pretrained(tmp_path)
    loaded = ContrastModel.from_pretrained(tmp_path).eval()
    items = torch.randint(256, (4, 20) if changes else (4, 1, 5, 5), dtype=torch.uint8)
    assert torch.equal(loaded.message(items), model.message(items))
    assert torch.equal(loaded.problem_encoder(items), model.problem_encoder(items))
    assert loaded.config.bits == 6 and list(loaded.config.filters) == list(model.config.filters)


def test_the_loss_of_the_model_is_the_cross_entropy_of_its_logits():
    torch.manual_seed(0)
    model = ContrastModel(config()).eval()
    items = squares(12)
    problem, labels = items.view(4, 3, 1, 5, 5), torch.tensor([0, 1, 2, 0])
    output = model(problem[torch.arange(4), labels], problem, labels)
    expected = -output.logits.log_softmax(-1)[torch.arange(4), labels].mean()
    torch.testing.assert_close(output.loss, expected)
    assert model(problem[:, 0], problem).loss is None


def test_a_model_that_has_not_learnt_is_left_out_and_said_so(data, experiment, caplog):
    trained = {
        0: TrainedContrast(experiment.models[0], 0.5 * log(3), 3),
        7: TrainedContrast(experiment.models[0], 0.95 * log(3), 3),
    }
    with caplog.at_level(logging.WARNING, "hf_untangle"):
        record = measure_contrast(trained, data, QUICK)
    assert "A model is left out: the loss of seed 7 is 95% of a guesser's, above 80%" in caplog.text
    assert [model.left_out is None for model in record.models] == [True, False]
    assert {cell.seed for cell in record.cells} == {0}


def test_when_no_model_has_learnt_there_is_nothing_to_measure(data, experiment):
    trained = {3: TrainedContrast(experiment.models[0], log(3), 3)}
    with pytest.raises(StatisticsError, match="all were left out: the loss of seed 3 is 100% .* Train for more steps"):
        measure_contrast(trained, data, QUICK)


def test_a_share_of_no_bit_is_refused_before_anything_is_trained(data, monkeypatch):
    monkeypatch.setattr("hf_untangle.papers.contrast.experiment.train_contrast", pytest.fail)
    with pytest.raises(ConfigError, match="0.1 of 6 bits is 0"):
        run_contrast(data, QUICK.model_copy(update={"shares": (0.1,)}), progress=False)


def test_a_test_set_that_is_too_small_for_an_entropy_is_an_error(data, experiment):
    small = ItemSets(data.train, {"squares": data.sets["squares"][:8]}, data.shape, "few")
    with pytest.raises(StatisticsError, match="needs at least 15 items"):
        measure_contrast({0: TrainedContrast(experiment.models[0], 0.1, 3)}, small, QUICK)


@pytest.mark.parametrize(("entropy_on", "same"), [("eval", False), ("train", True)])
def test_entropy_is_measured_on_the_evaluated_set_or_in_distribution(data, experiment, entropy_on, same, monkeypatch):
    seen = []
    original = __import__("hf_untangle.papers.contrast.experiment", fromlist=["keep_after"]).keep_after
    monkeypatch.setattr(
        "hf_untangle.papers.contrast.experiment.keep_after",
        lambda order, entropy, count, seed: seen.append(entropy) or original(order, entropy, count, seed),
    )
    settings = QUICK.model_copy(update={"entropy_on": entropy_on, "shares": (0.5,)})
    measure_contrast({0: TrainedContrast(experiment.models[0], 0.1, 3)}, data, settings)
    assert torch.equal(seen[0], seen[-1]) is same


def test_the_paper_mode_has_the_published_choices():
    paper = PRESETS["paper"]
    assert (paper.ablation, paper.entropy_on, paper.corrected, paper.shares, paper.bits) == ("half", "eval", False, (0.3,), 512)
    sizes = ContrastConfig()
    assert (sizes.filters, sizes.embedding_size, sizes.hidden_size) == ((64, 64, 64), 128, 192)
    assert (sizes.num_hidden_layers, sizes.num_attention_heads, sizes.intermediate_size) == (2, 3, 64)


def test_spread_is_mean_and_sample_deviation():
    assert spread([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    assert spread([4.0]) == (4.0, 0.0)


def test_augmentation_keeps_the_range_and_changes_every_image():
    torch.manual_seed(0)
    pictures = torch.rand(6, 1, 8, 8)
    changed = change_images(pictures)
    assert changed.shape == pictures.shape
    assert not any(torch.allclose(one, other) for one, other in zip(changed, pictures, strict=True))
    flat = change_images(torch.full((3, 1, 8, 8), 0.25))
    torch.testing.assert_close(flat, torch.full((3, 1, 8, 8), 0.25))


def test_changed_texts_hold_no_byte_that_was_not_there():
    torch.manual_seed(0)
    blocks = torch.randint(256, (8, 64))
    changed = change_texts(blocks)
    assert not torch.equal(changed, blocks)
    for one, other in zip(changed, blocks, strict=True):
        assert set(one.tolist()) <= set(other.tolist())


def test_callbacks_reach_the_trainer(data):
    from transformers import TrainerCallback

    class Count(TrainerCallback):
        steps = 0

        def on_step_end(self, *_, **__):
            self.steps += 1

    count = Count()
    train_contrast(config(), data.train, choices=3, steps=5, batch_size=4, callbacks=[count])
    assert count.steps == 5


def test_digits_come_with_three_shifts_of_the_same_test_images():
    sets = image_items.digit_items()
    plain, inverted, turned, shuffled = sets.sets.values()
    assert (len(sets.train), len(plain), sets.in_distribution) == (1297, 500, "digits")
    assert torch.equal(255 - inverted, plain)
    assert torch.equal(turned, inverted.rot90(1, (2, 3)))
    assert torch.equal(shuffled.flatten(1).sort().values, plain.flatten(1).sort().values)
    assert not torch.equal(shuffled, plain)


def test_images_of_the_hub_are_resized_in_color():
    rows = ({"img": Image.new(mode, (50, 40), color)} for mode, color in (("RGB", (255, 0, 10)), ("L", 7)))
    read = image_items._resized_images(rows, "img")
    assert read.shape == (2, 3, 32, 32)
    assert read[0, :, 3, 3].tolist() == [255, 0, 10]
    assert read[1, :, 3, 3].tolist() == [7, 7, 7]


def test_no_rows_are_an_error():
    with pytest.raises(CorpusError, match="`img` must hold images, but there are no rows"):
        image_items._resized_images(iter(()), "img")


def test_without_the_hub_cifar10_says_what_to_use_instead(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(CorpusError, match=r"readable from the Hub, but it is not \(no network\). .* take `digits`"):
        image_items.cifar10_items()


def test_with_the_hub_the_four_sets_of_the_paper_are_read(monkeypatch):
    asked = []

    def stream(repository, *, split, streaming):
        asked.append((repository, split))
        column = "img" if "cifar10" in repository else "image"
        return iter([{column: Image.new("L", (4, 4), 9)}] * 3)

    monkeypatch.setattr("datasets.load_dataset", stream)
    sets = image_items.cifar10_items(limit=2)
    assert list(sets.sets) == ["cifar10", "mnist", "colorectal", "plant village"]
    assert len(sets.train) == 3
    assert {len(one) for one in sets.sets.values()} == {2}
    assert asked[0] == ("uoft-cs/cifar10", "train")


def test_texts_are_cut_into_blocks_of_bytes_by_part():
    documents = [f"{number:03} " + "abcdefgh" * 20 for number in range(40)]
    sets = text_items.text_items(documents, {"loud": [one.upper() for one in documents]})
    assert list(sets.sets) == ["strings", "loud"]
    assert sets.train.shape[1] == 64
    assert sets.shape == {"modality": "text"}
    assert bytes(sets.train[0].tolist()).decode().startswith(tuple(one[:3] for one in documents))


def test_capitals_change_letters_alone():
    block = torch.tensor([list(b"a Z-z{`9")], dtype=torch.uint8)
    assert bytes(text_items.in_capitals(block)[0].tolist()) == b"A Z-Z{`9"


def test_texts_that_are_too_short_or_share_a_name_are_errors():
    with pytest.raises(CorpusError, match="part of strings must have a document of 64 bytes"):
        text_items.text_items(["short"] * 20, {})
    with pytest.raises(CorpusError, match="`strings` is both trained on and a shift"):
        text_items.text_items(["a" * 80] * 20, {"strings": ["b" * 80]})
