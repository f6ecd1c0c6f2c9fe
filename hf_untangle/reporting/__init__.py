"""A finished result as plots, a page and a model card."""

from hf_untangle.doors import open_door

open_door(__name__)
