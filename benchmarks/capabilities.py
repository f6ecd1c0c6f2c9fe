"""What can be taken out of a model, at what cost: one row a capability and a way to take it out, beside three controls.

    python benchmarks/capabilities.py                              # SmolLM2, every capability whose text is here
    python benchmarks/capabilities.py --only code fiction          # some of them
    python benchmarks/capabilities.py --model gemma3-270m --seeds 3
    python benchmarks/capabilities.py --text German=german.txt     # a language, of a file, against English prose

Pruning and `auto` work with the same text and the same budgets. Random masks (the mean of three), the smallest weights,
and the neurons that the retain corpus uses least are as many in every group as pruning removed. Figures are of held-out
test parts. Finished rows are kept in `--output`, so that a stopped run continues.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from statistics import mean
from typing import Any

from hf_untangle import models
from hf_untangle.data.corpora import Corpus, corpus
from hf_untangle.data.snippets import archive
from hf_untangle.errors import BudgetError
from hf_untangle.records.unlearning import Comparison, Scores
from hf_untangle.unlearn import unlearn

Task = tuple[Corpus, Corpus]
"""What is to go, and what is to stay."""
SHARED = {
    "tokens": 8_192,
    "evaluation_tokens": 4_096,
    "retain_budget": 0.05,
    "disruption_budget": 0.1,
    "prompts": [],
    "progress": False,
}
OWN = {"prune": {"steps": 5, "gradient_tokens": 4_096, "evaluation_doublings": 0, "controls": 1}, "auto": {"controls": 0}}
"""Few tokens, so that a row is made in minutes on one core."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="capabilities, by name")
    parser.add_argument(
        "--text", action="append", default=[], metavar="NAME=FILE", help="another capability, against general prose"
    )
    parser.add_argument("--output", type=Path, default=Path("out/capabilities"))
    args = parser.parse_args()
    tasks = capabilities() | {
        name: (corpus(file), embedded("general")) for name, file in (one.split("=", 1) for one in args.text)
    }
    rows = [
        row
        for name in args.only or tasks
        for seed in range(args.seeds)
        for row in kept(args.output / f"{args.model.replace('/', '-')}-{name}-{seed}.json", name, tasks[name], seed, args)
    ]
    print_table(rows)


def capabilities() -> dict[str, Task]:
    """Every capability whose text is on this machine."""
    general = embedded("general")
    found = {
        "code": (embedded("code"), general),
        "Python, not other languages": (embedded("python"), embedded("other-code")),
        "fiction": (corpus(list(prose(True)), name="fiction"), corpus(list(prose(False)), name="other prose")),
        "sums": (corpus(list(sums()), name="sums", chat=False), general),
        "facts of the world": (corpus("facts-world", chat=False), general),
    }
    if archive().is_file():
        found["sentiment"] = (corpus("snippets-negative"), corpus("snippets-positive"))
        found["talk of films"] = (corpus("snippets-films"), corpus("snippets-editorials"))
    return found


def embedded(name: str) -> Corpus:
    """A corpus of this package."""
    return corpus(name, prefer="embedded")


def prose(fiction: bool) -> Iterator[str]:
    """Paragraphs of one register of the prose in this package, or of all others; few documents are more evenly parted so."""
    with as_file(files("hf_untangle.data") / "general") as folder:
        for file in sorted(folder.glob("*.txt")):
            if (file.stem.partition("-")[0] == "fiction") is fiction:
                yield from filter(str.strip, file.read_text(encoding="utf-8").split("\n\n"))


def sums(count: int = 2_000) -> Iterator[dict[str, str]]:
    """Sums of two numbers below 100 after two worked examples; what counts is the answer."""
    drawn = random.Random(0)
    for _ in range(count):
        numbers = [(drawn.randrange(100), drawn.randrange(100)) for _ in range(3)]
        *shown, (one, other) = numbers
        lines = [f"{left} + {right} = {left + right}\n" for left, right in shown]
        yield {"prompt": f"{''.join(lines)}{one} + {other} =", "completion": f" {one + other}"}


def kept(file: Path, name: str, task: Task, seed: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Read the rows of one capability, or measure them and write them down."""
    if not file.exists():
        rows = measured(name, task, seed, args)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(rows, indent=1))
        print_table(rows)
    return json.loads(file.read_text())


def measured(name: str, task: Task, seed: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Take a capability out by pruning and by `auto`, each from a fresh copy of the model."""
    rows = []
    for method in ("prune", "auto"):
        model, tokenizer = models.load(args.model, dtype=args.dtype)
        start = time.perf_counter()
        try:
            found = unlearn(model, *task, method=method, tokenizer=tokenizer, seed=seed, **SHARED, **OWN[method])
        except BudgetError as error:
            rows.append({"capability": name, "seed": seed, "way": method, "note": str(error)})
            continue
        seconds, test = time.perf_counter() - start, found.record.test
        rows.append({"capability": name, "seed": seed, "way": method, "seconds": seconds, **drops(test, [test.after])})
        controls = {
            "random masks": list(test.controls),
            "smallest weights": [test.magnitude],
            "least used on retain": [test.retain_only],
        }
        rows += [
            {"capability": name, "seed": seed, "way": control, **drops(test, scores)}
            for control, scores in controls.items()
            if scores and scores[0] is not None
        ]
    return rows


def drops(test: Comparison, after: list[Scores | None]) -> dict[str, float]:
    """How much less of both corpora is predicted than before, relatively; the mean where there are several."""
    found = {
        use: mean(1 - getattr(one, use).top1 / getattr(test.before, use).top1 for one in after if one is not None)
        for use in ("forget", "retain")
    }
    disruptions = [one.disruption for one in after if one is not None and one.disruption is not None]
    return found | {"before": test.before.forget.top1} | ({"disruption": mean(disruptions)} if disruptions else {})


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print rows as Markdown."""
    print(
        "\n| capability | seed | by | top-1 before | what goes | what stays | KL | seconds |\n|---|--:|---|--:|--:|--:|--:|--:|"
    )
    for row in rows:
        if "note" in row:
            cells = ["-", row["note"], "", "", ""]
        else:
            kl = f"{row['disruption']:.3f}" if "disruption" in row else "-"
            seconds = f"{row['seconds']:.0f}" if "seconds" in row else ""
            cells = [f"{row['before']:.1%}", f"{-row['forget']:+.1%}", f"{-row['retain']:+.1%}", kl, seconds]
        print(f"| {row['capability']} | {row['seed']} | {row['way']} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
