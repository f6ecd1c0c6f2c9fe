"""The notebook runs from top to bottom in a kernel of its own, on the real SmolLM2 with fewer tokens than it shows."""

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


def test_the_notebook_is_clean():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(cell.execution_count is None and not cell.outputs for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for shown, tested in FASTER.items():
        (cell,) = (cell for cell in notebook.cells if shown in cell.source)
        cell.source = cell.source.replace(shown, tested)
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "neuron groups" in printed and "random" in printed
    assert (tmp_path / "smollm2-without-code" / "report.html").exists()
    assert (tmp_path / "without-code" / "adapter_config.json").exists()
