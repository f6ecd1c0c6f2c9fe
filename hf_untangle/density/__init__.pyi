"""The public names of this room, and where each is defined."""

from hf_untangle.density.measure import Measure as Measure
from hf_untangle.density.result import DensityResult as DensityResult
from hf_untangle.density.sweep import sweep as sweep
from hf_untangle.density.sweep_config import SweepConfig as SweepConfig
