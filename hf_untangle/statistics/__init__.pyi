"""The public names of this room, and where each is defined."""

from hf_untangle.statistics.activation_statistics import ActivationStatistics as ActivationStatistics
from hf_untangle.statistics.card import statistics_card as statistics_card
from hf_untangle.statistics.collect import collect as collect
from hf_untangle.statistics.fingerprint import weights_fingerprint as weights_fingerprint
from hf_untangle.statistics.gram import Gram as Gram
from hf_untangle.statistics.gram import collect_grams as collect_grams
from hf_untangle.statistics.head_entropy import collect_head_entropy as collect_head_entropy
from hf_untangle.statistics.histogram_modes import collect_modes as collect_modes
from hf_untangle.statistics.moments import Moments as Moments
from hf_untangle.statistics.saliency import collect_saliency as collect_saliency
from hf_untangle.statistics.thresholded import collect_bits as collect_bits
from hf_untangle.statistics.thresholded import quantile_thresholds as quantile_thresholds
from hf_untangle.statistics.weight_norms import weight_norms as weight_norms
