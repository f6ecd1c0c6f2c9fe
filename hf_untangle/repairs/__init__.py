"""Training after unlearning: retain comes back, or relearning takes longer; removed neurons stay removed."""

from hf_untangle.doors import open_door

open_door(__name__)
