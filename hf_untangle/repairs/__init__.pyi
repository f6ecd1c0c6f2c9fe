"""The public names of this room, and where each is defined."""

from hf_untangle.repairs.repair import repair as repair
from hf_untangle.repairs.robustify import robustify as robustify
