"""The public names and where each lives; `__init__.py` reads them here and imports a name when it is first used."""

from hf_untangle import density as density
from hf_untangle import nets as nets
from hf_untangle.architecture.locate import neuron_groups as neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup as NeuronGroup
from hf_untangle.attacks.config import AttackConfig as AttackConfig
from hf_untangle.attacks.report import AttackReport as AttackReport
from hf_untangle.attacks.run import attack as attack
from hf_untangle.callbacks.density import DensityCallback as DensityCallback
from hf_untangle.callbacks.entropy import EntropyCallback as EntropyCallback
from hf_untangle.callbacks.mask import MaskCallback as MaskCallback
from hf_untangle.callbacks.nets import NetsCallback as NetsCallback
from hf_untangle.callbacks.statistics import StatisticsCallback as StatisticsCallback
from hf_untangle.callbacks.translation import TranslationCallback as TranslationCallback
from hf_untangle.callbacks.unlearn_evaluation import UnlearnEvaluationCallback as UnlearnEvaluationCallback
from hf_untangle.compaction.compact import compact as compact
from hf_untangle.compaction.folder_to_folder import compact_folder as compact_folder
from hf_untangle.compaction.folder_to_folder import remove_folder as remove_folder
from hf_untangle.compression import PruneResult as PruneResult
from hf_untangle.compression import plan as plan
from hf_untangle.compression import prune as prune
from hf_untangle.data.batches import token_blocks as token_blocks
from hf_untangle.data.corpora import corpus as corpus
from hf_untangle.errors import UntangleError as UntangleError
from hf_untangle.evaluation.evaluate import evaluate as evaluate
from hf_untangle.evaluation.loading import metric as metric
from hf_untangle.evaluation.next_token import next_token_metrics as next_token_metrics
from hf_untangle.masks.apply import masked as masked
from hf_untangle.masks.mask import NeuronMask as NeuronMask
from hf_untangle.masks.removal import remove_ as remove_
from hf_untangle.pruning.config import UnlearnConfig as UnlearnConfig
from hf_untangle.pruning.prune_config import PruneConfig as PruneConfig
from hf_untangle.repairing.repair import repair as repair
from hf_untangle.statistics.activations import ActivationStatistics as ActivationStatistics
from hf_untangle.statistics.collect import collect as collect
from hf_untangle.translation.kan.convert import to_kan_ as to_kan_
from hf_untangle.translation.kan.convert import to_relu_ as to_relu_
from hf_untangle.translation.kan.kan_to_relu import kan_to_relu as kan_to_relu
from hf_untangle.translation.kan.relu_to_kan import relu_to_kan as relu_to_kan
from hf_untangle.translation.kan.splines import PiecewiseLinearKANLayer as PiecewiseLinearKANLayer
from hf_untangle.translation.shallow.patterns import index_patterns as index_patterns
from hf_untangle.translation.shallow.three_layer import three_layer as three_layer
from hf_untangle.unlearned import UnlearnResult as UnlearnResult
from hf_untangle.unlearned import restore as restore
from hf_untangle.unlearning import unlearn as unlearn

__version__: str
