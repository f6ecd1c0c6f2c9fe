"""Entropy of bits and neurons: what the least and the most informative of them are worth, in and out of distribution."""

from hf_untangle.doors import open_door

open_door(__name__)
