"""A report is written beside the checkpoint."""

import pytest
from huggingface_hub import ModelCard
from records import a_mask, a_record, an_attack, outcome, reading, some_statistics

from hf_untangle.errors import StatisticsError
from hf_untangle.reporting.report import write_report

PLOTS = ("trade_off", "removed_by_layer", "importance_scatter")


def test_the_page_the_plots_and_the_card_lie_in_the_folder(tmp_path):
    record = a_record()
    write_report(tmp_path, record, some_statistics(record, 1), some_statistics(record, 2), a_mask(record), "apache-2.0")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert ModelCard.load(tmp_path / "README.md").data.license == "apache-2.0"
    assert sorted(file.stem for file in (tmp_path / "plots").iterdir()) == sorted(PLOTS)
    assert "(plots/trade_off.png)" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_attacks_have_a_plot_of_their_own(tmp_path):
    record = a_record(attacks=(an_attack(outcome("quantize", reading("unlearned", 0.2, "NF4", 2))),))
    write_report(tmp_path, record, some_statistics(record, 1), some_statistics(record, 2), a_mask(record))
    assert sorted(file.stem for file in (tmp_path / "plots").iterdir()) == sorted((*PLOTS, "attacks"))


def test_what_else_lies_in_the_folder_stays(tmp_path):
    (tmp_path / "model.safetensors").write_text("weights")
    record = a_record()
    write_report(tmp_path, record, some_statistics(record, 1), some_statistics(record, 2), a_mask(record))
    assert (tmp_path / "model.safetensors").read_text() == "weights"


def test_nothing_is_written_when_the_statistics_are_of_another_model(tmp_path):
    record = a_record()
    other = some_statistics(record.model_copy(update={"groups": record.groups[:2]}), 1)
    with pytest.raises(StatisticsError, match="have other neuron groups"):
        write_report(tmp_path, record, other, other, a_mask(record))
    assert list(tmp_path.iterdir()) == []
