"""What the documentation shows runs as it is shown."""

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "translation-three-layers.md"


def test_the_examples_of_the_page_run_from_top_to_bottom(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    shown = capsys.readouterr().out
    assert len(blocks) >= 6
    for part in (
        "membership",
        "`1` (GELU) computes `gelu`",
        "regions, ",
        "While",
        "exactness=",
        "| region | points |",
    ):
        assert part in shown
