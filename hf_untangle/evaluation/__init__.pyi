"""The public names of this room, and where each is defined."""

from hf_untangle.evaluation.evaluate import evaluate as evaluate
from hf_untangle.evaluation.generation import continuations as continuations
from hf_untangle.evaluation.next_token import NextTokenMetrics as NextTokenMetrics
from hf_untangle.evaluation.next_token import next_token_metrics as next_token_metrics
from hf_untangle.evaluation.next_token import relative_drop as relative_drop
from hf_untangle.evaluation.score_cache import EvaluationConfig as EvaluationConfig
from hf_untangle.evaluation.self_written import own_text as own_text
