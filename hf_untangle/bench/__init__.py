"""Benchmarks: methods on one task, beside what they must be told from."""

from hf_untangle.doors import open_door

open_door(__name__)
