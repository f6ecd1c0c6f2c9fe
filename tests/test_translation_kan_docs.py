"""The code in the documentation of KANs runs as it is printed."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs" / "translation-kans.md"


def test_the_code_on_the_page_runs(capsys: pytest.CaptureFixture[str]):
    page = DOCS.read_text()
    section = page[page.index("## Piecewise linear KANs") :].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert len(blocks) == 5
    exec("\n".join(blocks), {})
    assert "tensor([0.])" in capsys.readouterr().out
