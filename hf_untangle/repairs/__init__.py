"""Getting back what pruning took from the retain corpus, while removed neurons stay removed."""

from hf_untangle.doors import open_door

open_door(__name__)
