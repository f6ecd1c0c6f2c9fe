"""Results: a changed model with the record of what happened to it, to save, load, push, shrink, repair, attack or undo."""

from hf_untangle.doors import open_door

open_door(__name__)
