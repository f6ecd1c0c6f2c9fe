"""Whatever comes in blocks that a model runs over: tokens, tokens some of which are hidden, or images."""

from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.images import ImageBlocks

Blocks = TokenBlocks | ImageBlocks
