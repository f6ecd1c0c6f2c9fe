"""Walks through the tree of linear regions, in one process or in several, until the time is up."""

import random
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice, takewhile
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from typing import Any

import numpy as np

from hf_untangle.translation.three_layers.region_tree import Leaf, Maps, Node, RegionTree

SUBTREES_PER_PROCESS = 16
"""Into how many pieces the work is cut, so that the processes finish at about the same time."""

Arguments = tuple[tuple[Maps, ...], Maps, np.ndarray, np.ndarray]
"""What a `RegionTree` is made of."""


def walk(arguments: Arguments, deadline: float) -> Iterator[Leaf | None]:
    """Walk through a tree in this process.

    Args:
        arguments: What the tree is made of.
        deadline: When to stop, as `time.time()` counts.

    Returns:
        The leaves, depth first, and None at the end if the time was up.
    """
    tree = RegionTree(*arguments)
    return _in_time(tree.leaves(tree.root()), deadline)


def walk_in_pool(arguments: Arguments, deadline: float, processes: int, max_leaves: int) -> Iterator[Leaf | None]:
    """Walk through the subtrees of a tree in several processes.

    Args:
        arguments: What the tree is made of.
        deadline: When to stop, as `time.time()` counts.
        processes: How many processes walk.
        max_leaves: How many leaves the caller will take; no process looks much further.

    Yields:
        The leaves in the order of one process, and None at the end if the time was up.
    """
    subtrees = _top(RegionTree(*arguments), SUBTREES_PER_PROCESS * processes)
    context = get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(processes, context, _start_worker, (stop, *arguments)) as pool:
        with _script_hidden():
            futures = [pool.submit(_work, subtree, max_leaves, deadline) for subtree in subtrees]
        try:
            for future in futures:
                yield from future.result()
        finally:  # the caller may have seen enough
            stop.set()
            pool.shutdown(cancel_futures=True)


@contextmanager
def _script_hidden() -> Iterator[None]:
    """Start processes that do not run the user's script again, which would load torch and whatever else it imports.

    A spawned process runs it to find functions that were defined there; all that ours need is in this room.
    """
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__spec__", "__file__") if hasattr(main, name)}
    try:
        main.__spec__, main.__file__ = None, None
        yield
    finally:
        for name in ("__spec__", "__file__"):
            delattr(main, name)
        vars(main).update(hidden)


def dive(tree: RegionTree, chance: random.Random) -> float:
    """Go down to one leaf at random, and multiply the numbers of children met.

    Args:
        tree: The tree.
        chance: Picks the child at each split.

    Returns:
        The product, whose mean over many dives is the number of leaves (Knuth 1975).
    """
    node, product = tree.root(), 1.0
    while isinstance(node, Node):
        children = tree.grow(node)
        node, product = chance.choice(children), product * len(children)
    return product


def _in_time(leaves: Iterable[Leaf], deadline: float) -> Iterator[Leaf | None]:
    """Pass leaves on; when the time is up, say so with None and end."""
    for leaf in leaves:
        if time.time() > deadline:
            yield None
            return
        yield leaf


def _top(tree: RegionTree, count: int) -> list[Node | Leaf]:
    """Grow all branches alike until there are enough of them."""
    nodes: list[Node | Leaf] = [tree.root()]
    while len(nodes) < count and any(isinstance(node, Node) for node in nodes):
        grown = [tree.grow(node) if isinstance(node, Node) else (node,) for node in nodes]
        nodes = [child for children in grown for child in children]
    return nodes


def _start_worker(stop: Event, *arguments: Any) -> None:
    """Set up the tree of one process."""
    global _worker
    _worker = stop, RegionTree(*arguments)


def _work(subtree: Node | Leaf, max_leaves: int, deadline: float) -> list[Leaf | None]:
    """Walk through one subtree. One leaf more than the limit tells the caller that there are more."""
    stop, tree = _worker
    leaves = takewhile(lambda _: not stop.is_set(), tree.leaves(subtree))
    return list(_in_time(islice(leaves, max_leaves + 1), deadline))
