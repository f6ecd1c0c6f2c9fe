"""What a model can still do: next-token metrics and continuations."""

from hf_untangle.doors import open_door

open_door(__name__)
