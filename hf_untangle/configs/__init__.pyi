"""The public names of this room, and where each is defined."""

from hf_untangle.configs.attack import AttackConfig as AttackConfig
from hf_untangle.configs.prune import PruneConfig as PruneConfig
from hf_untangle.configs.repair import RepairConfig as RepairConfig
from hf_untangle.configs.robustify import RobustifyConfig as RobustifyConfig
from hf_untangle.configs.unlearn import UnlearnConfig as UnlearnConfig
