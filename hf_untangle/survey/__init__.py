"""What works on which type of model: tiny models of every type in the installed transformers, put to the test."""

from hf_untangle.doors import open_door

open_door(__name__)
