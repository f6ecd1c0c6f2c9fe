"""What commands print for people: no name is ever cut, however narrow the terminal is, and paths stay on one line."""

import io

import pytest
from rich.table import Table
from typer.testing import CliRunner

from hf_untangle.cli.main import app
from hf_untangle.cli.streams import ResultConsole
from hf_untangle.data.catalogue import CORPORA

WIDTHS = [20, 40, 80, 200]


@pytest.mark.parametrize("width", WIDTHS)
def test_names_of_modules_are_never_cut(project, monkeypatch, width):
    monkeypatch.chdir(project)
    monkeypatch.setenv("COLUMNS", str(width))
    done = CliRunner().invoke(app, ["groups", "toy"])
    assert done.exit_code == 0
    names = [f"model.layers.{layer}.{part}" for layer in (0, 1) for part in ("self_attn.o_proj", "mlp.down_proj")]
    assert all(name in done.stdout for name in names)
    assert "gate_proj" in done.stdout and "…" not in done.stdout


@pytest.mark.parametrize("width", WIDTHS)
def test_names_of_corpora_are_never_cut(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    done = CliRunner().invoke(app, ["corpora"])
    assert all(entry.repository in done.stdout for entry in CORPORA.values() if entry.repository)
    assert "…" not in done.stdout


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("terminal", [True, False])
def test_a_path_stays_on_one_line_and_prose_is_wrapped_in_a_terminal(width, terminal):
    text = io.StringIO()
    console = ResultConsole(file=text, width=width, force_terminal=terminal, markup=False, color_system=None)
    path = "/a/" + "very/" * 60 + "long/path"
    console.print(f"Saved in {path}: report.html to look at.")
    assert path in text.getvalue()
    console.print("word " * 100)
    longest = max(map(len, text.getvalue().splitlines()[1:]))
    assert longest <= width if terminal else longest >= 499


def test_prose_in_a_table_is_wrapped_where_names_leave_room():
    text = io.StringIO()
    table = Table("name", "what")
    table.add_row("model.layers.10.self_attn.o_proj", "many words " * 20)
    ResultConsole(file=text, width=60, markup=False).print(table)
    assert max(map(len, text.getvalue().splitlines())) <= 60
    assert "model.layers.10.self_attn.o_proj" in text.getvalue()
