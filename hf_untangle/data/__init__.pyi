"""The public names of this room, and where each is defined."""

from hf_untangle.data.batches import TokenBlocks as TokenBlocks
from hf_untangle.data.batches import token_blocks as token_blocks
from hf_untangle.data.blocks import Blocks as Blocks
from hf_untangle.data.corpora import Corpus as Corpus
from hf_untangle.data.corpora import Part as Part
from hf_untangle.data.corpora import corpus as corpus
from hf_untangle.data.facts.invented import invented_facts as invented_facts
from hf_untangle.data.image_classes import image_classes as image_classes
