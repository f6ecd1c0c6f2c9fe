"""The public names of this room, and where each is defined."""

from hf_untangle.papers.contrast.contrast_config import ContrastExperimentConfig as ContrastExperimentConfig
from hf_untangle.papers.contrast.experiment import run_contrast as run_contrast
from hf_untangle.papers.contrast.image_items import digit_items as digit_items
from hf_untangle.papers.contrast.text_items import text_items as text_items
from hf_untangle.papers.image_classifiers import Training as Training
from hf_untangle.papers.image_sets import LabeledImages as LabeledImages
from hf_untangle.papers.planted.experiment import PlantedConfig as PlantedConfig
from hf_untangle.papers.planted.experiment import find_planted as find_planted
from hf_untangle.papers.planted.planted_model import planted_model as planted_model
from hf_untangle.papers.scaling.families import image_family as image_family
from hf_untangle.papers.scaling.families import language_family as language_family
from hf_untangle.papers.scaling.families import pretrained_family as pretrained_family
from hf_untangle.papers.scaling.language import LanguageTraining as LanguageTraining
from hf_untangle.papers.scaling.plots import density_across_widths as density_across_widths
from hf_untangle.papers.scaling.scaling import ScalingResult as ScalingResult
from hf_untangle.papers.scaling.widths import across_widths as across_widths
from hf_untangle.papers.tickets.comparison import Contestant as Contestant
from hf_untangle.papers.tickets.comparison import compare as compare
from hf_untangle.papers.tickets.digits import digits_task as digits_task
