"""Callbacks for any Trainer, each a thin one over a function of a lower room: the trainer first, `every` in optimizer steps."""

from hf_untangle.doors import open_door

open_door(__name__)
