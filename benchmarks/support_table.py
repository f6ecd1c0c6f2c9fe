"""Which types of models are understood: surveys every type in the installed transformers and writes docs/concepts/models.md.

python benchmarks/support_table.py
"""

from collections import Counter
from pathlib import Path
from textwrap import wrap

import torch
import transformers

from hf_untangle.survey.support import Support
from hf_untangle.survey.survey import sweep

ROOT = Path(__file__).parents[1]
PAGE, LIST = ROOT / "docs" / "concepts" / "models.md", ROOT / "tests" / "located_types.txt"
COLUMNS = ("type", "task", "located", "FFN", "attention", "experts", "silenced only", "ragged", "uniform", "why not")
MARK = "<!-- The table below is written by benchmarks/support_table.py. -->"


def row(support: Support) -> list[str]:
    """What works on one type, in words."""
    return [
        f"`{support.type}`",
        support.task,
        "yes" if support.located else "no",
        *(f"{count} of {support.layers}" if count else "" for count in (support.ffn, support.attention, support.experts)),
        str(support.silenced_only or ""),
        *("yes" if smaller else "no" for smaller in (support.ragged, support.uniform)),
        support.why.replace("|", "/"),
    ]


def page(found: list[Support]) -> str:
    """The part of the page that is made by this script."""
    causal = [one for one in found if one.task == "causal-lm"]
    located, built, ragged, uniform = (
        sum(getattr(one, what) for one in causal) for what in ("located", "builds", "ragged", "uniform")
    )
    others = Counter(one.located for one in found if one.task != "causal-lm")
    lines = [
        MARK,
        "",
        f"transformers {transformers.__version__} has {len(causal)} types of causal language models, of which {built} can be "
        f"built tiny from their configuration. On {located} of these neurons are located and every law holds, and so they are "
        f"on {others[True]} of {others.total()} encoders, sequence-to-sequence, image and speech models. Compaction gives a "
        f"model that is the same once saved and loaded on {ragged} causal types with ragged layers, and on {uniform} with "
        "uniform ones.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(row(one)) + " |" for one in found),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Survey all types, and write the page and the list that a test holds on to."""
    torch.set_num_threads(1)
    found = []
    for support in sweep():
        print(support.type, support.located, support.why, flush=True)
        found.append(support)
    PAGE.write_text(PAGE.read_text().partition(MARK)[0] + page(found))
    names = " ".join(one.type for one in found if one.located and one.task == "causal-lm")
    LIST.write_text("\n".join(wrap(names, 120, break_on_hyphens=False)) + "\n")


if __name__ == "__main__":
    main()
