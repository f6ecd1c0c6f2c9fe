"""The settings of unlearning, pruning, repair and attacks."""

from hf_untangle.doors import open_door

open_door(__name__)
