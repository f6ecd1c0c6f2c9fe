"""Which neurons stay, tried out with hooks or made permanent in the weights."""

from hf_untangle.doors import open_door

open_door(__name__)
