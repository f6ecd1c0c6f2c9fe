"""Attacks on a model that has unlearned: does what was removed come back?"""

from hf_untangle.doors import open_door

open_door(__name__)
