"""The public names of this room, and where each is defined."""

from hf_untangle.masks.ablation import Ablation as Ablation
from hf_untangle.masks.ablation import Constants as Constants
from hf_untangle.masks.ablation import mean_ablation as mean_ablation
from hf_untangle.masks.by_hooks import masked as masked
from hf_untangle.masks.card import mask_card as mask_card
from hf_untangle.masks.dampening import dampen_ as dampen_
from hf_untangle.masks.dampening import dampened as dampened
from hf_untangle.masks.mask import NeuronMask as NeuronMask
from hf_untangle.masks.removal import remove_ as remove_
from hf_untangle.masks.removal import zeros_of as zeros_of
from hf_untangle.masks.rotation import rotate_heads_ as rotate_heads_
from hf_untangle.masks.select import random_like as random_like
from hf_untangle.masks.select import silent_mask as silent_mask
from hf_untangle.masks.unrouted import unrouted as unrouted
