"""The card is made from the record alone, and the Hub can read it."""

import ast
import math

import pytest
import yaml
from huggingface_hub import ModelCard
from records import a_record, corpora, scores

from hf_untangle.configs.unlearn import PRESETS
from hf_untangle.records.unlearning import Comparison
from hf_untangle.reporting.model_card import hub_id, model_card, snippet
from hf_untangle.reporting.table import summary


def call(record):
    """The keywords of the call that repeats a run; corpora as their source text."""
    found = [node for node in ast.walk(ast.parse(snippet(record))) if isinstance(node, ast.Call)]
    (unlearn,) = (node for node in found if ast.unparse(node.func) == "untangle.unlearn")
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in unlearn.keywords}
    return keywords.pop("forget"), keywords.pop("retain"), keywords


def test_the_card_is_read_back_with_the_same_data():
    card = model_card(a_record(), "Apache-2.0")
    data = ModelCard(str(card)).data
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert data.to_dict()["base_model_relation"] == "finetune"
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "transformers", "text-generation")
    assert set(data.tags) == {"unlearning", "machine-unlearning", "pruning", "hf_untangle"}


def test_what_is_measured_is_what_the_hub_is_told():
    record = a_record()
    results = {(each.dataset_split, each.metric_name): each.metric_value for each in model_card(record).data.eval_results}
    assert results[("forget_test", "next-token top-1 accuracy")] == record.test.after.forget.top1
    assert results[("retain_test", "perplexity")] == pytest.approx(55.5)
    assert len(results) == 6


def test_two_corpora_of_one_name_stay_two_results():
    card = model_card(a_record(corpora=corpora("strings", "strings", origin="strings")))
    (index,) = card.data.to_dict()["model-index"]
    assert [result["dataset"]["name"] for result in index["results"]] == ["strings (forget)", "strings (retain)"]


def test_an_infinite_perplexity_is_left_out_of_the_metadata_but_not_of_the_table():
    test = Comparison(before=scores(0.5, 0.3), after=scores(0.0, 0.3, (math.inf, 48.0)), controls=())
    card = model_card(a_record(test=test))
    assert all(math.isfinite(each.metric_value) for each in card.data.eval_results)
    assert "| unlearned | 0.0% | 100.0% | 0.0% | inf |" in card.text


def test_only_data_sets_of_the_hub_are_named_as_such():
    read = corpora()
    for corpus in read.values():
        if corpus["corpus"] == "general":
            corpus |= {"origin": "hub", "source": "allenai/c4 (en, train)"}
    assert model_card(a_record(corpora=read)).data.datasets == ["allenai/c4"]
    assert "datasets" not in model_card(a_record()).data.to_dict()


@pytest.mark.parametrize(
    ("model", "revision", "expected"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", None, "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e", "gpt2"),
        ("gpt2", None, None),
        ("/models/llama", None, None),
        ("./out/demo", None, None),
        ("", None, None),
    ],
)
def test_only_an_id_of_the_hub_is_a_base_model(model, revision, expected):
    record = a_record(model=model, revision=revision)
    assert hub_id(record) == expected
    assert model_card(record).data.base_model == expected
    assert ("base_model_relation" in model_card(record).data.to_dict()) == (expected is not None)


def test_a_folder_that_looks_like_an_id_is_no_base_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "demo").mkdir(parents=True)
    assert hub_id(a_record(model="out/demo", revision=None)) is None


def test_the_folders_of_a_machine_stay_out_of_the_card():
    card = model_card(a_record(model="/home/someone/secret/tiny", revision=None))
    assert "someone" not in str(card)
    assert "from_pretrained('tiny', dtype='bfloat16')" in card.text


@pytest.mark.parametrize("preset", PRESETS)
def test_the_program_repeats_the_settings(preset):
    config = PRESETS[preset].with_settings(steps=5, importance="std", ffn_eps="2%")
    forget, retain, keywords = call(a_record(config=config))
    assert (forget, retain) == ("untangle.corpus('code', prefer='embedded')", "untangle.corpus('general', prefer='embedded')")
    values = {name: eval(value, {"float": float}) for name, value in keywords.items()}
    assert PRESETS["default"].with_settings(**values) == config


def test_the_program_names_only_what_differs_from_the_defaults():
    assert call(a_record())[2] == {"seed": "3"}


@pytest.mark.parametrize(("origin", "expected"), [("file", "'notes.txt'"), ("strings", "forget_texts"), ("hub", None)])
def test_the_program_reads_the_same_corpora(origin, expected):
    forget, _, _ = call(a_record(corpora=corpora(forget="notes.txt", origin=origin)))
    assert forget == (expected or "untangle.corpus('notes.txt', prefer='hub')")


def test_the_card_tells_what_was_removed_measured_and_read():
    record = a_record()
    text = model_card(record).text
    assert summary(record) in text
    for phrase in (
        "42 of 576 FFN neurons (7.3%)",
        "7 of the removed attention neurons are still computed",
        "| random mask | 46.2% | 8.0% |",
        "`seed` | `3` (not the default)",
        "PSF-2.0",
        "Not as the only safeguard",
        "![",
    ):
        assert phrase in text


def test_the_card_tells_its_limits():
    text = model_card(a_record()).text
    for phrase in ("not proof of erasure", "Relearning is possible", "next-token accuracy", "small", "copied from the context"):
        assert phrase in text


def test_nothing_is_said_of_neurons_that_are_still_computed_when_there_are_none():
    assert "still computed" not in model_card(a_record(still_computed=0)).text


def test_a_license_that_is_not_known_is_not_invented():
    card = model_card(a_record())
    assert "license" not in card.data.to_dict()
    assert "which this run did not record" in card.text


def test_a_name_with_a_bar_keeps_the_tables_whole():
    text = model_card(a_record(corpora=corpora(forget="a|b"))).text
    (heading,) = (row for row in text.splitlines() if row.startswith("| | "))
    assert heading.replace("\\|", "").count("|") == 10


def test_a_name_with_a_colon_keeps_the_metadata_whole():
    card = str(model_card(a_record(corpora=corpora(forget="data.csv: #1"))))
    (index,) = yaml.safe_load(card.split("---\n")[1])["model-index"]
    assert index["name"] == "SmolLM2-135M-Instruct without data.csv: #1"
