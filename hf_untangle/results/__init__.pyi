"""The public names of this room, and where each is defined."""

from hf_untangle.results.base import restore as restore
from hf_untangle.results.pruned import PruneResult as PruneResult
from hf_untangle.results.reading import read_result as read_result
from hf_untangle.results.unlearned import UnlearnResult as UnlearnResult
