"""In a notebook a call is one bar and a result its report; the example runs from top to bottom on the real SmolLM2."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples" / "unlearn_code.ipynb"
FASTER = {
    '{"steps": 4, "tokens": 16_384, "gradient_tokens": 6_144, "evaluation_tokens": 4_096}': (
        '{"steps": 1, "tokens": 1_024, "gradient_tokens": 512, "evaluation_tokens": 512}'
    ),
    '{"seeds": 1, "steps": 6, "samples": 8}': '{"seeds": 1, "steps": 1, "samples": 1, "evaluation_tokens": 512}',
}
"""Settings on the page, and those that it is tested with."""
TINY = """
import hf_untangle as untangle
model, tokenizer = untangle.load("toy")
small = {"tokens": 1024, "evaluation_tokens": 512, "block_size": 32, "batch_size": 16, "ffn_fraction": 0.1, "steps": 3}
corpora = {"forget": "numbers.jsonl", "retain": "words.jsonl", "tokenizer": tokenizer}
"""


def run_cells(notebook: nbformat.NotebookNode, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Execute a notebook in a folder, in a kernel that finds this package."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")]))
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder)}}).execute()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_call_is_one_bar_and_a_result_its_report(project, monkeypatch):
    cells = [
        TINY,
        "result = untangle.unlearn(model, **corpora, **small, retain_budget=0.99)",
        "result",
        "untangle.unlearn(model, **corpora, **small | {'ffn_fraction': 1e-9, 'attention_fraction': 1e-9})",
        "untangle.collect(model, 'words.jsonl', tokenizer=tokenizer, max_tokens=512)",
    ]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    notebook.cells[3].metadata.tags = ["raises-exception"]
    run_cells(notebook, project, monkeypatch)
    _, run, result, failed, collected = (cell.outputs for cell in notebook.cells)

    (bar,) = run
    assert bar.output_type == "display_data" and bar.data["text/html"].count("<progress") == 1
    assert "on this machine" in bar.data["text/plain"], "what was said on the way stands above the bar"
    assert "unlearning 100%, done in" in bar.data["text/plain"] and "forget -" in bar.data["text/plain"]

    (report,) = result
    assert "parameters removed" in report.data["text/html"] and "random mask" in report.data["text/html"]
    assert report.data["text/plain"].startswith("UnlearnResult: ") and report.data["text/plain"].count("\n") == 2

    shown, error = failed
    assert "<progress" not in shown.data["text/html"] and error.output_type == "error"

    *_, part, statistics = collected  # before them stands what the rows were taken for
    assert part.data["text/html"].count("<progress") == 1 and "512 tokens" in part.data["text/plain"]
    assert statistics.data["text/plain"].startswith("ActivationStatistics: what ")


def test_the_notebook_is_clean():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(cell.execution_count is None and not cell.outputs for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_notebook_runs(tmp_path, monkeypatch):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for shown, tested in FASTER.items():
        (cell,) = (cell for cell in notebook.cells if shown in cell.source)
        cell.source = cell.source.replace(shown, tested)
    run_cells(notebook, tmp_path, monkeypatch)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = "".join(output.get("data", {}).get("text/html", "") for output in outputs)
    assert "NeuronGroups" in shown and "random mask" in shown and "AttackReport" in shown
    assert shown.count("<progress") == 2, "one bar for `unlearn`, one for `attack`"
    assert (tmp_path / "smollm2-without-code" / "report.html").exists()
    assert (tmp_path / "without-code" / "adapter_config.json").exists()
