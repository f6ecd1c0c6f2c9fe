"""How fast two threads are on a quiet and on a busy machine, by how they wait for each other.

    python benchmarks/threads.py              # beside as many busy processes as the table says

Each row is a process of its own, as OpenMP reads its settings once: the body of a model of SmolLM2-135M's shape, with random
weights, in float32. The busy processes only count, so they share the cores and nothing else.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from datetime import date

WAYS = {
    "1": ("1", {}),
    "2, as OpenMP does by default": ("2", {}),
    "2, `OMP_WAIT_POLICY=PASSIVE`": ("2", {"OMP_WAIT_POLICY": "PASSIVE"}),
    "2, `GOMP_SPINCOUNT=10000`": ("2", {"GOMP_SPINCOUNT": "10000"}),
}
"""Threads, and what the environment says of how they wait."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2], help="How many busy processes run beside.")
    parser.add_argument("--seconds", type=float, default=10, help="Of each row and column.")
    parser.add_argument("--threads", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.threads:
        print(speed(int(args.threads), args.seconds))
        return
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, float32; tokens/s beside busy processes\n")
    print(f"| threads, how they wait | {' | '.join(map(str, args.busy))} |\n|---|{'---|' * len(args.busy)}")
    for name, (threads, settings) in WAYS.items():
        speeds = [beside(busy, threads, settings, args.seconds) for busy in args.busy]
        print(f"| {name} | {' | '.join(f'{one:,.0f}' for one in speeds)} |", flush=True)


def beside(busy: int, threads: str, settings: dict[str, str], seconds: float) -> float:
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        command = [sys.executable, __file__, "--threads", threads, "--seconds", str(seconds)]
        return float(subprocess.check_output(command, env=os.environ | settings, text=True))
    finally:
        for other in others:
            other.kill()
            other.wait()


def speed(threads: int, seconds: float) -> float:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(threads)
    shape = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
    heads = {"num_attention_heads": 9, "num_key_value_heads": 3}
    body = LlamaForCausalLM(LlamaConfig(**shape, **heads, vocab_size=4096)).eval().model
    ids = torch.randint(4096, (8, 256))
    with torch.inference_mode():
        body(ids[:1])
        start, passes = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            body(ids)
            passes += 1
        return passes * ids.numel() / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
