"""The random number generators of Python, NumPy and torch, which belong to the caller."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Draw random numbers inside the `with` block, and put every generator back to its own state afterwards.

    These are the global generators of Python, of NumPy, and of torch on the CPU and on every device in use.

    Yields:
        Nothing.
    """
    with ExitStack() as undo:
        undo.callback(random.setstate, random.getstate())
        undo.callback(np.random.set_state, np.random.get_state())
        undo.callback(torch.set_rng_state, torch.get_rng_state())
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            undo.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
        yield
