"""The public names of this room, and where each is defined."""

from hf_untangle.density.families import image_family as image_family
from hf_untangle.density.families import language_family as language_family
from hf_untangle.density.families import pretrained_family as pretrained_family
from hf_untangle.density.images import LabeledImages as LabeledImages
from hf_untangle.density.language import LanguageTraining as LanguageTraining
from hf_untangle.density.measure import Measure as Measure
from hf_untangle.density.result import DensityResult as DensityResult
from hf_untangle.density.scaling import ScalingResult as ScalingResult
from hf_untangle.density.sweep import sweep as sweep
from hf_untangle.density.sweep_config import SweepConfig as SweepConfig
from hf_untangle.density.training import Training as Training
from hf_untangle.density.widths import across_widths as across_widths
