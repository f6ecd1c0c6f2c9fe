"""Which types of models are understood, and what works on them from `unlearn` to a checkpoint that is made smaller twice:
surveys every type in the installed transformers and writes docs/concepts/models.md.

python benchmarks/support_table.py          # all types, or those that are left where it was stopped
python benchmarks/support_table.py llama    # these types anew, then the page
"""

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from re import sub
from textwrap import wrap
from typing import Any

import torch
import transformers

from hf_untangle.survey.lifecycle import FAULT, life_of
from hf_untangle.survey.support import Support
from hf_untangle.survey.survey import OTHER_TYPES, quiet, sweep
from hf_untangle.survey.tiny_models import causal_types

ROOT = Path(__file__).parents[1]
PAGE, LIST = ROOT / "docs" / "concepts" / "models.md", ROOT / "tests" / "located_types.txt"
FOUND = ROOT / "out" / "support_table.jsonl"
COLUMNS = ("type", "task", "located", "FFN", "attention", "experts", "silenced only", "unlearn", "ragged", "uniform", "why not")
MARK = "<!-- The table below is written by benchmarks/support_table.py. -->"
LED = ("causal-lm", "masked-lm", "image-text")
"""Tasks whose models unlearn from text."""
GENERAL = "Nothing can be taken out of this"


def found(support: Support) -> dict[str, Any]:
    """What is known of one type, its whole life included where it unlearns from text."""
    row = asdict(support) | {"located": support.located, "steps": {}}
    if support.located and support.task in LED:
        try:
            with quiet():
                row["steps"] = life_of(support.type, support.task).steps
        except Exception as error:  # A tiny model that cannot be taught is no fault of what comes after.
            row["steps"] = {"unlearn": f"the tiny model cannot be taught: {type(error).__name__}: {first_line(str(error))}"}
    return row


def first_line(text: str) -> str:
    """The first line of a text, without the temporary folder that a model was led through its life in."""
    return sub(r"/\S*/\.untangle-draft-[^/`]*/new/", "", text.strip().partition("\n")[0])


def works(row: dict[str, Any], layout: str) -> str:
    """Whether compaction in a layout works in memory, by folder, and again: yes, once, or no."""
    steps = {name: what for name, what in row["steps"].items() if name.partition(",")[0].removesuffix(" again") == layout}
    if not row[layout] or steps.get(layout):
        return "no"
    return "once" if any(steps.values()) else "yes"


def reasons(row: dict[str, Any]) -> str:
    """Why something does not work: where it is not located, not cut, refused in a step of its life, or wrong."""
    others = {name: what for name, what in row["steps"].items() if what and not what.startswith(GENERAL) or FAULT in what}
    told = [row["why"], *(f"{name}: {first_line(what)}" for name, what in others.items())]
    return "; ".join(filter(None, told)).replace("|", "/")


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    steps = row["steps"]
    unlearns = ("yes" if steps.get("unlearn") == "" and steps.get("reload") == "" else "no") if steps else ""
    cells = [
        f"`{row['type']}`",
        row["task"],
        "yes" if row["located"] else "no",
        *(f"{row[kind]} of {row['layers']}" if row[kind] else "" for kind in ("ffn", "attention", "experts")),
        str(row["silenced_only"] or ""),
        unlearns,
        *(works(row, layout) for layout in ("ragged", "uniform")),
        reasons(row),
    ]
    return "| " + " | ".join(cells) + " |"


def page(rows: list[dict[str, Any]]) -> str:
    """The part of the page that is made by this script."""
    causal = [row for row in rows if row["task"] == "causal-lm"]
    others = Counter(row["located"] for row in rows if row["task"] != "causal-lm")
    led = [row for row in rows if row["steps"]]
    faults = sum(any(what.startswith(FAULT) for what in row["steps"].values()) for row in led)
    counts = {what: sum(bool(row[what]) for row in causal) for what in ("located", "builds", "ragged", "uniform")}
    lines = [
        MARK,
        "",
        f"transformers {transformers.__version__} has {len(causal)} types of causal language models, of which "
        f"{counts['builds']} can be built tiny from their configuration. On {counts['located']} of these neurons are located "
        f"and every law holds, and so they are on {others[True]} of {others.total()} models for masked tokens, sequences, "
        "images, images with text, and speech. Compaction gives a model that is the same once saved and loaded on "
        f"{counts['ragged']} causal types with ragged layers, and on {counts['uniform']} with uniform ones.",
        "",
        f"A tiny model of {len(led)} located types was taught two small languages and led through a whole life: `unlearn`, "
        "save, plain `from_pretrained`, mask against removal, compaction and compaction again in both layouts, and the same "
        f"from folder to folder. {sum(line(row).split(' | ')[7] == 'yes' for row in led)} unlearn; {faults} have a step that "
        "neither worked nor was refused in a sentence. `once` means that what was compacted is not compacted again, or not by "
        "folder.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *map(line, rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Survey what is asked for, or what is left, and write the page and the list that a test holds on to."""
    torch.set_num_threads(1)
    known = (
        {(row["type"], row["task"]): row for row in map(json.loads, FOUND.read_text().splitlines())} if FOUND.exists() else {}
    )
    FOUND.parent.mkdir(exist_ok=True)
    asked = sys.argv[1:]
    for name in asked or [*causal_types(), *OTHER_TYPES]:
        if not asked and any(kind == name for kind, _ in known):
            continue
        for support in sweep([name]):
            row = found(support)
            known[support.type, support.task] = row
            with FOUND.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(support.type, support.task, row["located"], reasons(row)[:300], flush=True)
    order = [*causal_types(), *OTHER_TYPES]
    if left := {name for name in order if all(kind != name for kind, _ in known)}:
        print(f"{len(left)} types are left: run this again.")
        return
    rows = sorted(known.values(), key=lambda row: (row["task"] != "causal-lm", order.index(row["type"])))
    PAGE.write_text(PAGE.read_text().partition(MARK)[0] + page(rows))
    names = " ".join(row["type"] for row in rows if row["located"] and row["task"] == "causal-lm")
    LIST.write_text("\n".join(wrap(names, 120, break_on_hyphens=False)) + "\n")


if __name__ == "__main__":
    main()
