"""Networks rewritten as other networks that compute the same function: KANs, ReLU networks, and three layers."""

from hf_untangle.doors import open_door

open_door(__name__)
