"""Text and how it reaches a model: corpora, their parts, and blocks of tokens."""

from hf_untangle.doors import open_door

open_door(__name__)
