"""Cards say what a record holds, and nothing else; the examples are what their record makes."""

import importlib.util
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from records import a_mask, a_record, scores

from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.errors import MaskError
from hf_untangle.hub import cards
from hf_untangle.masks.card import mask_card
from hf_untangle.records.unlearning import CompactionRecord, Comparison
from hf_untangle.reporting.adapter_path import adapter_path_card, write_adapter_path
from hf_untangle.reporting.model_card import model_card
from hf_untangle.reporting.table import summary
from hf_untangle.statistics.card import statistics_card

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "model_cards"
NAMES = ("result.md", "strengths.md", "mask.md", "statistics.md")


@pytest.fixture(scope="module")
def made() -> dict[str, ModelCard]:
    """The cards that the example's record and mask make."""
    spec = importlib.util.spec_from_file_location("make_examples", FOLDER / "make_examples.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.example_cards()


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_are_what_their_record_makes(made, name):
    again = "run: python model_cards/make_examples.py"
    assert str(made[name]) == (FOLDER / "examples" / name).read_text(encoding="utf-8"), again


@pytest.mark.parametrize("name", NAMES)
def test_the_metadata_of_an_example_is_read_back_by_the_hubs_own_class(name):
    text = (FOLDER / "examples" / name).read_text(encoding="utf-8")
    data = ModelCard(text).data
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert data.library_name == {"result.md": "transformers", "statistics.md": "hf_untangle"}.get(name, "peft")
    relation = {"result.md": "finetune", "statistics.md": None}.get(name, "adapter")
    assert data.to_dict().get("base_model_relation") == relation
    assert yaml.safe_load(text.split("---\n")[1])["tags"][-2:] != []


def test_the_example_of_a_result_tells_what_was_removed_measured_read_and_is_not_shown(made):
    text = made["result.md"].text
    for phrase in (
        "1,380 of 46,080 FFN neurons (3.0%)",
        "516 of 17,280 attention neurons (3.0%)",
        "| unlearned | 11.2% | 80.1% |",
        "| random mask | 50.8% | 10.0% |",
        "Python 3.11.7 standard library | PSF-2.0 |",
        "`retain_budget` | `0.05`",
        "## Intended use",
        "No such attack was run here",
    ):
        assert phrase in text
    assert (FOLDER / "examples" / "plots" / "trade_off.png").stat().st_size > 0


def test_a_card_follows_its_record():
    record = a_record()
    worse = record.model_copy(
        update={"test": Comparison(before=record.test.before, after=scores(0.4, 0.1), controls=record.test.controls)}
    )
    assert summary(record) in model_card(record).text
    assert summary(worse) in model_card(worse).text and summary(record) not in model_card(worse).text


def test_the_card_of_a_ladder_marks_the_chosen_step():
    record = a_record()
    rows = [line for line in adapter_path_card(record, "me/steps").text.splitlines() if line.startswith("| `step-")]
    assert len(rows) == len(record.history.steps)
    assert [number for number, row in enumerate(rows, start=1) if "(chosen)" in row] == [record.history.chosen]
    assert rows[0].startswith("| `step-01` | 6 | 1 | 31.8% |")


@pytest.mark.parametrize(("layout", "needs_package"), [("uniform", False), ("ragged", True)])
def test_the_card_of_a_smaller_checkpoint_says_how_small_it_is_and_how_to_load_it(layout, needs_package):
    made = {"layout": layout, "round_to": 64, "parameters": 120_000_000, "needs_package": needs_package}
    left = {"model.layers.*.self_attn.o_proj": "heads stay whole"}
    text = model_card(a_record(compaction=CompactionRecord(**made, left=left))).text
    assert f"which were taken out of the tensors ({layout} widths): 120.0 million parameters are left" in text
    assert "The tensors keep their shapes" not in text
    assert "- Removed neurons of `model.layers.*.self_attn.o_proj` stay as zeros: heads stay whole." in text
    assert ("once `hf_untangle` is imported" in text) == needs_package
    assert f'smaller = result.compact(layout="{layout}", round_to=64)' in text
    assert "taken out of the tensors" not in model_card(a_record()).text


def test_a_run_that_held_neurons_at_their_mean_makes_no_ladder(tmp_path):
    record = a_record(config=UnlearnConfig(ablation="mean"))
    with pytest.raises(
        MaskError, match="can only silence neurons, but the run of this mask held them at ablation='mean', and its numbers"
    ):
        write_adapter_path(tmp_path, record, [a_mask(record)] * len(record.history.steps), "me/steps")
    assert list(tmp_path.iterdir()) == []


def test_a_ladder_without_controls_leaves_their_cells_empty():
    record = a_record()
    steps = tuple(step.model_copy(update={"controls": ()}) for step in record.history.steps)
    text = adapter_path_card(
        record.model_copy(update={"history": record.history.model_copy(update={"steps": steps})}), "me/steps"
    ).text
    assert all(row.endswith("|  |  |") for row in text.splitlines() if row.startswith("| `step-"))


def test_the_folders_of_a_machine_stay_out_of_every_card():
    record = a_record(model="/home/someone/secret/tiny", revision=None)
    mask = a_mask(record)
    read = [record.corpora["retain_train"]]
    made = (
        adapter_path_card(record, "me/steps"),
        mask_card(mask.kept, mask.kinds, mask.model, "me/mask"),
        statistics_card(record.model, None, "float32", read, roots=True, source="me/sums"),
    )
    for card in made:
        assert "someone" not in str(card) and "tiny" in card.text
        assert "base_model" not in card.data.to_dict()


def test_a_license_is_told_where_it_is_known_and_not_invented():
    record = a_record()
    mask = a_mask(record)
    assert adapter_path_card(record, "me/steps", "Apache-2.0").data.license == "apache-2.0"
    assert "which this run did not record" in adapter_path_card(record, "me/steps").text
    assert mask_card(mask.kept, mask.kinds, mask.model, "me/mask", "mit").data.license == "mit"
    assert "license" not in mask_card(mask.kept, mask.kinds, mask.model, "me/mask").text


def test_a_dataset_of_the_hub_is_named_once():
    hub, file = {"origin": "hub", "source": "allenai/c4 (en, train)"}, {"origin": "file", "source": "notes.txt"}
    assert cards.hub_datasets([hub, file, hub]) == ["allenai/c4"]
    assert cards.hub_datasets([file]) is None


def test_every_template_is_inside_the_package_and_goes_into_the_wheel():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["hf_untangle"]
    links = list((FOLDER / "templates").iterdir())
    assert len(links) == len(NAMES)
    for link in links:
        inside = link.resolve().relative_to(ROOT / "hf_untangle").as_posix()
        assert any(fnmatch(inside, pattern) for pattern in patterns)
