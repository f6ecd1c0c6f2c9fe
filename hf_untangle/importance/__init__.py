"""One number per neuron: its importance to a corpus, and its score between two."""

from hf_untangle.doors import open_door

open_door(__name__)
