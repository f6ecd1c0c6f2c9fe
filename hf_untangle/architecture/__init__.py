"""Where the neurons of a model are."""

from hf_untangle.doors import open_door

open_door(__name__)
