"""The public names of this room, and where each is defined."""

from hf_untangle.records.attacks import AttackRecord as AttackRecord
from hf_untangle.records.compression import PruneRecord as PruneRecord
from hf_untangle.records.unlearning import History as History
from hf_untangle.records.unlearning import RepairRecord as RepairRecord
from hf_untangle.records.unlearning import RobustifyRecord as RobustifyRecord
from hf_untangle.records.unlearning import Scores as Scores
from hf_untangle.records.unlearning import Step as Step
from hf_untangle.records.unlearning import UnlearnRecord as UnlearnRecord
