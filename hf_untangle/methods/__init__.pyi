"""The public names of this room, and where each is defined."""

from hf_untangle.methods.cost import cost_of as cost_of
from hf_untangle.methods.forget_objectives import FORGET_OBJECTIVE as FORGET_OBJECTIVE
from hf_untangle.methods.registry import METHODS as METHODS
from hf_untangle.methods.registry import Method as Method
from hf_untangle.methods.retain_objectives import RETAIN_OBJECTIVE as RETAIN_OBJECTIVE
from hf_untangle.methods.run import PROPOSALS as PROPOSALS
from hf_untangle.methods.settings import MethodConfig as MethodConfig
from hf_untangle.methods.trainer import UnlearnArguments as UnlearnArguments
from hf_untangle.methods.trainer import UnlearnTrainer as UnlearnTrainer
from hf_untangle.methods.writes import WRITES as WRITES
