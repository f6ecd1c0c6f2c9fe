"""Where this package keeps what it would otherwise have to compute again."""

import os
from pathlib import Path

from huggingface_hub import constants


def cache_folder() -> Path:
    """Where unfinished runs and dequantized checkpoints are kept: `HF_UNTANGLE_CACHE`, or a folder of its own in `HF_HOME`."""
    return Path(os.environ.get("HF_UNTANGLE_CACHE") or Path(constants.HF_HOME) / "hf_untangle")
