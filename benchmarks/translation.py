"""Are translated networks the same functions, what do they cost, and how fast are linear regions found? Prints Markdown.

    python benchmarks/translation.py

It takes about five minutes on one idle core; `--only kan` or `--only regions` takes one half of it. Times are processor
time on one thread, so that other programs count little, except where two processes are compared. Where pykan is installed,
its layer is timed too; where relucent 1.0.0 is, regions are counted by it too. (relucent is under the AGPL: install it into
an environment of its own for this benchmark, never next to a product.)
"""

import argparse
import platform
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import torch
import transformers
from translation_kan import kan_tables
from translation_regions import region_tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("kan", "regions"))
    parser.add_argument("--points", type=int, default=100_000, help="at how many points three layers are compared")
    parser.add_argument("--processes", type=int, default=2, help="how many processes search together")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    print(f"{processor()}, 1 thread, torch {torch.__version__}, {date.today()}")
    for title, header, rows in tables(args):
        print(f"\n### {title}\n")
        for row in (header, ["---"] * len(header), *rows):
            print(f"| {' | '.join(map(str, row))} |", flush=True)


def tables(args: argparse.Namespace) -> Iterator[tuple[str, list[str], list[list]]]:
    """Each table when its turn comes, since some take minutes."""
    if args.only != "regions":
        yield from kan_tables()
    if args.only != "kan":
        yield from region_tables(args.points, args.processes)


def processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.processor()


if __name__ == "__main__":
    main()
