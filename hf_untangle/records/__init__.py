"""What happened in a run, as plain values that a report, a card or a later comparison needs."""

from hf_untangle.doors import open_door

open_door(__name__)
