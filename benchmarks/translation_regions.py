"""The part of `benchmarks/translation.py` about three layers: regions counted, timed and covered, and right on boundaries."""

import itertools
import math
import os
import time
from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import linprog
from torch import nn

from hf_untangle.data.digits import digits
from hf_untangle.translation.three_layers.attributions import integrated_gradients
from hf_untangle.translation.three_layers.enumeration import enumerate_regions
from hf_untangle.translation.three_layers.patterns import index_patterns
from hf_untangle.translation.three_layers.restrictions import restrict
from hf_untangle.translation.three_layers.three_layer import as_three_layers

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


Table = tuple[str, list[str], list[list]]


def region_tables(points: int, processes: int) -> Iterator[Table]:
    enumerate_regions(random_net(2, 2, 1), (-1, 1))  # the first reading of a network loads PyTorch's exporter
    yield from counts()
    yield speed()
    yield pool(processes)
    yield boundaries()
    yield forms(points)
    yield gradients()
    yield coverage()


def random_net(*widths: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(widths)]
    module = nn.Sequential(*[part for pair in layers for part in pair][:-1]).double()
    for part in module:
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=1.4 / math.sqrt(part.in_features))
            nn.init.normal_(part.bias, std=0.5)
    return module


def counts() -> Iterator[Table]:
    try:
        import relucent  # pyright: ignore[reportMissingImports]
    except ImportError:
        return
    rows = []
    for widths in NETS:
        module = random_net(*widths)
        start = time.perf_counter()
        referee = relucent.Complex(module)
        referee.bfs()
        middle = time.perf_counter()
        regions = enumerate_regions(module, (-1e4, 1e4))
        spent = f"{middle - start:.2f}", f"{time.perf_counter() - middle:.2f}"
        rows.append([name(widths), len(referee), len(regions), *spent])
    header = ["net", "regions of all space, relucent", "regions in a box of side 2e4", "relucent, s", "here, s"]
    yield "Region counts against an independent counter", header, rows


def speed() -> Table:
    rows = []
    for widths in [(2, 10, 10, 1), (3, 8, 8, 2), (4, 8, 8, 1), (6, 10, 1), (3, 16, 16, 1)]:
        module = random_net(*widths)
        start = time.process_time()
        found = len(enumerate_regions(module, (-3, 3)))
        middle = time.process_time()
        visited = plain_loop(module, limit=400)
        fast, slow = found / (middle - start), visited / (time.process_time() - middle)
        rows.append([name(widths), found, f"{slow:.0f}", f"{fast:.0f}", f"{fast / slow:.1f}"])
    plane = restrict(random_net(64, 64, 64, 10), torch.zeros(64), torch.eye(64)[:2] * 8)
    start = time.process_time()
    found = len(enumerate_regions(plane, (-1, 1)))
    rows.append(["plane through 64-64-64-10", found, "", f"{found / (time.process_time() - start):.0f}", ""])
    header = ["net, box of side 6", "regions", "plain scipy loop, regions per CPU second", "here", "ratio"]
    return "Regions a second on one core", header, rows


def pool(processes: int) -> Table:
    rows, module = [], random_net(4, 20, 20, 1)
    for count in (1, processes):
        start, before = time.perf_counter(), os.times()
        found = len(enumerate_regions(module, (-3, 3), processes=count))
        seconds, after = time.perf_counter() - start, os.times()
        mine = after.user + after.system - before.user - before.system
        theirs = after.children_user + after.children_system - before.children_user - before.children_system
        load = os.getloadavg()[0]
        rows.append([count, found, *(f"{value:.1f}" for value in (seconds, mine, theirs, mine + theirs / count, load))])
    header = ["processes", "regions", "seconds by the clock", "CPU seconds of the caller", "of the others"]
    return (
        "The same search in several processes, 4-20-20-1",
        [*header, "caller + others / processes", "load of the machine"],
        rows,
    )


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


def boundaries() -> Table:
    rows = []
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
        rows.append([name(widths), f"{on} of {len(x)}", fires, error(gate(x), y), crowd])
    header = ["net of whole numbers", "grid points on a boundary", "half-open: error, regions firing"]
    return "Lattices of boundary points", [*header, "gate: error", "closed: wrong points, regions firing"], rows


def forms(points: int) -> Table:
    regions = enumerate_regions(random_net(2, 10, 10, 1), (-3, 3))
    x = regions.box.sample(points)
    y = regions.network(x)
    rows = []
    for form in ("halfopen", "closed", "gate"):
        shallow = as_three_layers(regions, form)
        start = time.process_time()
        found = torch.cat([shallow(chunk) for chunk in x.split(4096)])
        rows.append([form, error(found, y), f"{time.process_time() - start:.2f}"])
    title = f"Three layers of 2-10-10-1, {len(regions)} regions, on {points:,} points"
    return title, ["form", "largest error", "CPU seconds"], rows


def gradients() -> Table:
    module = random_net(16, 64, 64, 1)
    x, z = torch.randn(2, 16, dtype=torch.float64)
    difference = (module(x[None]) - module(z[None])).item()
    gap = abs(integrated_gradients(module, x, z).sum().item() - difference)
    t = (torch.arange(2000, dtype=torch.float64)[:, None] + 0.5) / 2000
    along = (z + t * (x - z)).requires_grad_()
    module(along).sum().backward()
    riemann = abs(((x - z) * along.grad.mean(0)).sum().item() - difference)
    rows = [["by linear pieces", f"{gap:.1e}"], ["midpoint sum of 2,000 steps", f"{riemann:.1e}"]]
    return "Integrated gradients of 16-64-64-1", ["how", "completeness gap"], rows


def coverage() -> Table:
    data = digits()
    (x, labels), (test, test_labels) = ((images.double(), labels) for images, labels in (data.train.flat(), data.test.flat()))
    rows = []
    for hidden in [(8,), (16,), (32,), (64,), (32, 32)]:
        torch.manual_seed(0)
        module = random_net(64, *hidden, 10)
        for part in module[::2]:
            part.reset_parameters()
        start = len(index_patterns(module, [x]))
        fit(module, x, labels)
        index = index_patterns(module, [x])
        accuracy = (module(test).argmax(1) == test_labels).double().mean()
        rows.append([" x ".join(map(str, hidden)), f"{accuracy:.1%}", start, len(index), f"{index.coverage(test):.1%}"])
    header = ["digits, hidden widths", "test accuracy", f"regions of {len(x):,} training points, untrained", "trained"]
    return "Regions that data visits", [*header, f"of {len(test)} test points in a known region"], rows


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
