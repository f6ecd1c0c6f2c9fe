"""Outputs on disk: written whole or not at all, and only over what this package wrote itself."""

import os
from pathlib import Path

from huggingface_hub import constants

from hf_untangle.folders.checks import check_apart, check_file, check_replaceable
from hf_untangle.folders.drafts import PREFIX, draft_in, recover, temporary_folder
from hf_untangle.folders.listing import LISTING, MARKER
from hf_untangle.folders.locks import locked, undisturbed
from hf_untangle.folders.whole import changed_folder, whole_file, whole_folder

__all__ = [
    "LISTING",
    "MARKER",
    "PREFIX",
    "cache_folder",
    "changed_folder",
    "check_apart",
    "check_file",
    "check_replaceable",
    "draft_in",
    "locked",
    "recover",
    "temporary_folder",
    "undisturbed",
    "whole_file",
    "whole_folder",
]


def cache_folder() -> Path:
    """Where unfinished runs and dequantized checkpoints are kept: `HF_UNTANGLE_CACHE`, or a folder of its own in `HF_HOME`."""
    return Path(os.environ.get("HF_UNTANGLE_CACHE") or Path(constants.HF_HOME) / "hf_untangle")
