"""Experiments that reproduce a paper on small networks trained here, one folder per paper.

`scaling` (density across widths), `contrast` (entropy of bits in k-contrast models, arXiv:2305.12238), `tickets` (evolved
lottery tickets on digits) and `planted` (which importance finds neurons that a language is known to live in).
"""

from hf_untangle.doors import open_door

open_door(__name__)
