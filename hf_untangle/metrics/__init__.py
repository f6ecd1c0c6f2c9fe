"""Metrics as plain functions, and those of single answers and texts as metrics of the `evaluate` library."""

from hf_untangle.doors import open_door

open_door(__name__)
