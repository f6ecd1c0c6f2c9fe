"""How much of a trained network is needed: one-shot pruning without retraining, alone and across widths."""

from hf_untangle.density.one_shot import sweep as sweep
from hf_untangle.density.result import DensityResult as DensityResult
from hf_untangle.density.settings import SweepSettings as SweepSettings
