"""The public names of this room, and where each is defined."""

from hf_untangle.metrics.answers import answer_probability as answer_probability
from hf_untangle.metrics.answers import exact_memorization as exact_memorization
from hf_untangle.metrics.answers import extraction_strength as extraction_strength
from hf_untangle.metrics.answers import multiple_choice as multiple_choice
from hf_untangle.metrics.answers import truth_ratio as truth_ratio
from hf_untangle.metrics.membership import membership_auc as membership_auc
from hf_untangle.metrics.membership import privacy_leakage as privacy_leakage
from hf_untangle.metrics.module import metric as metric
from hf_untangle.metrics.registry import METRICS as METRICS
from hf_untangle.metrics.texts import python_parses as python_parses
from hf_untangle.metrics.texts import repetition as repetition
from hf_untangle.metrics.texts import rouge as rouge
from hf_untangle.metrics.tokens import perplexity as perplexity
from hf_untangle.metrics.tokens import top_k_accuracy as top_k_accuracy
from hf_untangle.metrics.two_samples import forget_quality as forget_quality
from hf_untangle.metrics.utility import model_utility as model_utility
from hf_untangle.metrics.utility import normalized_probability as normalized_probability
