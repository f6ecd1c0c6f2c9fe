"""How much of a trained network is needed: one-shot pruning without retraining, of one network and across widths."""

from hf_untangle.doors import open_door

open_door(__name__)
