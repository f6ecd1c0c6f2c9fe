"""Smaller checkpoints: removed neurons are taken out of the tensors, in memory or from folder to folder."""

from hf_untangle.doors import open_door

open_door(__name__)
