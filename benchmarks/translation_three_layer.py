"""Three layers and linear regions, measured: counts, speed, what happens on boundaries, and coverage.

    python benchmarks/translation_three_layer.py

Region counts are compared with relucent 1.0.0 if it can be imported. It is under the AGPL: install it into an
environment of its own for this benchmark, never next to a product.
"""

import argparse
import itertools
import math
import platform
import time
from datetime import date

import numpy as np
import torch
from scipy.optimize import linprog
from sklearn.datasets import load_digits
from torch import nn

from hf_untangle.translation.shallow.attributions import integrated_gradients
from hf_untangle.translation.shallow.enumeration import enumerate_regions
from hf_untangle.translation.shallow.patterns import index_patterns
from hf_untangle.translation.shallow.slices import restrict
from hf_untangle.translation.shallow.three_layer import as_three_layers

NETS = [
    (2, 8, 1),
    (2, 6, 6, 1),
    (2, 10, 10, 1),
    (2, 5, 5, 5, 1),
    (3, 6, 6, 1),
    (3, 8, 8, 1),
    (4, 8, 1),
    (4, 6, 6, 1),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    enumerate_regions(random_net(2, 2, 1), (-1, 1))  # the first reading of a network loads PyTorch's exporter
    print(f"\n{date.today()}, {platform.machine()} cpu, 1 thread, torch {torch.__version__}\n")
    counts()
    speed(args.processes)
    boundaries()
    forms(args.points)
    gradients()
    coverage()


def random_net(*widths: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(widths)]
    module = nn.Sequential(*[part for pair in layers for part in pair][:-1]).double()
    for part in module:
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=1.4 / math.sqrt(part.in_features))
            nn.init.normal_(part.bias, std=0.5)
    return module


def counts() -> None:
    try:
        import relucent
    except ImportError:
        print("Region counts against relucent: skipped, it is not installed.\n")
        return
    print("| net | regions of all space, relucent | regions in a box of side 2e4 | relucent, s | here, s |")
    print("|---|---|---|---|---|")
    for widths in NETS:
        module = random_net(*widths)
        start = time.perf_counter()
        referee = relucent.Complex(module)
        referee.bfs()
        middle = time.perf_counter()
        regions = enumerate_regions(module, (-1e4, 1e4))
        spent = f"{middle - start:.2f} | {time.perf_counter() - middle:.2f}"
        print(f"| {name(widths)} | {len(referee)} | {len(regions)} | {spent} |")
    print()


def speed(processes: int) -> None:
    print("| net, box of side 6 | regions | plain scipy loop, regions per CPU second | here | ratio |")
    print("|---|---|---|---|---|")
    for widths in [(2, 10, 10, 1), (3, 8, 8, 2), (4, 8, 8, 1), (6, 10, 1), (3, 16, 16, 1)]:
        module = random_net(*widths)
        start = time.process_time()
        found = len(enumerate_regions(module, (-3, 3)))
        middle = time.process_time()
        visited = plain_loop(module, limit=400)
        fast, slow = found / (middle - start), visited / (time.process_time() - middle)
        print(f"| {name(widths)} | {found} | {slow:.0f} | {fast:.0f} | {fast / slow:.1f} |")
    plane = restrict(random_net(64, 64, 64, 10), torch.zeros(64), torch.eye(64)[:2] * 8)
    start = time.process_time()
    found = len(enumerate_regions(plane, (-1, 1)))
    print(f"\nPlane through 64-64-64-10: {found} regions, {time.process_time() - start:.2f} CPU seconds.")
    seconds = []
    for count in (1, processes):
        start = time.perf_counter()
        found = len(enumerate_regions(random_net(4, 20, 20, 1), (-3, 3), processes=count))
        seconds.append(time.perf_counter() - start)
    print(f"4-20-20-1: {found} regions, {seconds[0]:.1f} s; in {processes} processes {seconds[1]:.1f} s.\n")


def plain_loop(module: nn.Sequential, limit: int) -> int:
    """Depth first, one scipy linear program for each side of each neuron: what one would write first."""
    maps = [(part.weight.detach().numpy(), part.bias.detach().numpy()) for part in module[::2]]
    inputs = maps[0][0].shape[1]
    widths = [len(bias) for _, bias in maps[:-1]]
    stack, leaves = [((), np.zeros((0, inputs)), np.zeros(0))], 0
    while stack and leaves < limit:
        pattern, rows, constants = stack.pop()
        if len(pattern) == sum(widths):
            leaves += 1
            continue
        slope, intercept = pre_activation(maps, widths, pattern)
        for sign in (1, -1):
            more = np.vstack([rows, -sign * slope]), np.append(constants, sign * intercept)
            if largest_ball(*more) > 1e-9:
                stack.append(((*pattern, sign > 0), *more))
    return leaves


def pre_activation(maps: list, widths: list[int], pattern: tuple[bool, ...]) -> tuple[np.ndarray, float]:
    slopes, intercepts = maps[0]
    below = 0
    for (weight, bias), width in zip(maps[1:], widths, strict=True):
        if len(pattern) < below + width:
            break
        active = np.array(pattern[below : below + width], dtype=float)
        slopes, intercepts = (weight * active) @ slopes, (weight * active) @ intercepts + bias
        below += width
    return slopes[len(pattern) - below], intercepts[len(pattern) - below]


def largest_ball(rows: np.ndarray, constants: np.ndarray) -> float:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    bounds = [(-3, 3)] * rows.shape[1] + [(0, 6)]
    goal = np.append(np.zeros(rows.shape[1]), -1.0)
    found = linprog(goal, A_ub=np.hstack([rows, norms]), b_ub=constants, bounds=bounds, method="highs")
    return float(found.x[-1]) if found.status == 0 else -1.0


def boundaries() -> None:
    print("| net of whole numbers | grid points on a boundary | half-open: error, regions firing ", end="")
    print("| gate: error | closed: wrong points, regions firing |")
    print("|---|---|---|---|---|")
    for widths, seed in [((2, 4, 4, 2), 0), ((2, 6, 6, 1), 1), ((3, 5, 4, 1), 2)]:
        module = random_net(*widths, seed=seed)
        for parameter in module.parameters():
            parameter.data.copy_(torch.randint(-2, 3, parameter.shape))
        regions = enumerate_regions(module, (-4, 4))
        x = torch.tensor(list(itertools.product(range(-4, 5), repeat=widths[0])), dtype=torch.float64)
        y = module(x).detach()
        halfopen, closed, gate = (as_three_layers(regions, form) for form in ("halfopen", "closed", "gate"))
        on = int((regions.network.homogeneous(x) @ regions.boundaries.T == 0).any(1).sum())
        wrong = int(((closed(x) - y).abs() > 1e-9).any(1).sum())
        fires = f"{error(halfopen(x), y)}, {span(halfopen.multiplicity(x))}"
        crowd = f"{wrong}, {span(closed.multiplicity(x))}"
        print(f"| {name(widths)} | {on} of {len(x)} | {fires} | {error(gate(x), y)} | {crowd} |")
    print()


def forms(points: int) -> None:
    regions = enumerate_regions(random_net(2, 10, 10, 1), (-3, 3))
    x = regions.box.sample(points)
    y = regions.network(x)
    print(f"Three layers of 2-10-10-1, {len(regions)} regions, on {points:,} points:\n")
    print("| form | largest error | seconds |\n|---|---|---|")
    for form in ("halfopen", "closed", "gate"):
        shallow = as_three_layers(regions, form)
        start = time.perf_counter()
        found = torch.cat([shallow(chunk) for chunk in x.split(4096)])
        print(f"| {form} | {error(found, y)} | {time.perf_counter() - start:.2f} |")
    print()


def gradients() -> None:
    module = random_net(16, 64, 64, 1)
    x, z = torch.randn(2, 16, dtype=torch.float64)
    difference = (module(x[None]) - module(z[None])).item()
    gap = abs(integrated_gradients(module, x, z).sum().item() - difference)
    t = (torch.arange(2000, dtype=torch.float64)[:, None] + 0.5) / 2000
    along = (z + t * (x - z)).requires_grad_()
    module(along).sum().backward()
    riemann = abs(((x - z) * along.grad.mean(0)).sum().item() - difference)
    print(f"Integrated gradients of 16-64-64-1, completeness gap: {gap:.1e}; ", end="")
    print(f"midpoint sum of 2,000 steps: {riemann:.1e}.\n")


def coverage() -> None:
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float64)
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:1348], order[1348:]
    print("| digits, hidden widths | test accuracy | regions of 1,348 training points, untrained ", end="")
    print("| trained | test points in a known region |")
    print("|---|---|---|---|---|")
    for hidden in [(8,), (16,), (32,), (64,), (32, 32)]:
        torch.manual_seed(0)
        module = random_net(64, *hidden, 10)
        for part in module[::2]:
            part.reset_parameters()
        start = len(index_patterns(module, [x[train]]))
        fit(module, x[train], labels[train])
        index = index_patterns(module, [x[train]])
        accuracy = (module(x[test]).argmax(1) == labels[test]).double().mean()
        widths = " x ".join(map(str, hidden))
        print(f"| {widths} | {accuracy:.1%} | {start} | {len(index)} | {index.coverage(x[test]):.1%} |")


def fit(module: nn.Sequential, x: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
    for _ in range(400):
        loss = nn.functional.cross_entropy(module(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def name(widths: tuple[int, ...]) -> str:
    return "-".join(map(str, widths))


def error(found: torch.Tensor, expected: torch.Tensor) -> str:
    largest = (found - expected).abs().max().item()
    return "0.0" if largest == 0 else f"{largest:.1e}"


def span(multiplicity: torch.Tensor) -> str:
    low, high = int(multiplicity.min()), int(multiplicity.max())
    return f"always {low}" if low == high else f"{low} to {high}"


if __name__ == "__main__":
    main()
