"""The public names of this room, and where each is defined."""

from hf_untangle.importance.brain_surgeon import brain_surgeon as brain_surgeon
from hf_untangle.importance.criteria import fisher as fisher
from hf_untangle.importance.criteria import root_mean_square as root_mean_square
from hf_untangle.importance.entropy import always_off as always_off
from hf_untangle.importance.entropy import always_on as always_on
from hf_untangle.importance.entropy import entropy as entropy
from hf_untangle.importance.observations import Observations as Observations
from hf_untangle.importance.registry import IMPORTANCE as IMPORTANCE
from hf_untangle.importance.registry import damping as damping
from hf_untangle.importance.scores import SCORES as SCORES
