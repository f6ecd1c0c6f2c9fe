"""The public names of this room, and where each is defined."""

from hf_untangle.callbacks.density import DensityCallback as DensityCallback
from hf_untangle.callbacks.entropy import EntropyCallback as EntropyCallback
from hf_untangle.callbacks.mask import MaskCallback as MaskCallback
from hf_untangle.callbacks.nets import NetsCallback as NetsCallback
from hf_untangle.callbacks.statistics import StatisticsCallback as StatisticsCallback
from hf_untangle.callbacks.translation import TranslationCallback as TranslationCallback
from hf_untangle.callbacks.unlearn_evaluation import UnlearnEvaluationCallback as UnlearnEvaluationCallback
