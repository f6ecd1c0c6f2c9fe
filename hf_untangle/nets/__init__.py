"""Neuroevolutionary ticket search: finding masks and parameters in tandem, by evolution with learning in the loop."""

from hf_untangle.doors import open_door

open_door(__name__)
