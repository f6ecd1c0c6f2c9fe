"""The public names and where each is defined, then the rooms; `__init__.py` reads them here."""

import hf_untangle.architecture as architecture
import hf_untangle.attacks as attacks
import hf_untangle.bench as bench
import hf_untangle.callbacks as callbacks
import hf_untangle.compaction as compaction
import hf_untangle.compensation as compensation
import hf_untangle.configs as configs
import hf_untangle.data as data
import hf_untangle.density as density
import hf_untangle.entropy as entropy
import hf_untangle.evaluation as evaluation
import hf_untangle.hub as hub
import hf_untangle.importance as importance
import hf_untangle.masks as masks
import hf_untangle.methods as methods
import hf_untangle.metrics as metrics
import hf_untangle.nets as nets
import hf_untangle.papers as papers
import hf_untangle.records as records
import hf_untangle.repairs as repairs
import hf_untangle.reporting as reporting
import hf_untangle.results as results
import hf_untangle.statistics as statistics
import hf_untangle.survey as survey
import hf_untangle.translation as translation
from hf_untangle.architecture.locate import neuron_groups as neuron_groups
from hf_untangle.attacks.run import attack as attack
from hf_untangle.compaction.compact import compact as compact
from hf_untangle.configs.prune import PruneConfig as PruneConfig
from hf_untangle.configs.unlearn import UnlearnConfig as UnlearnConfig
from hf_untangle.data.corpora import corpus as corpus
from hf_untangle.errors import UntangleError as UntangleError
from hf_untangle.evaluation.evaluate import evaluate as evaluate
from hf_untangle.masks.by_hooks import masked as masked
from hf_untangle.masks.mask import NeuronMask as NeuronMask
from hf_untangle.masks.removal import remove_ as remove_
from hf_untangle.models import load as load
from hf_untangle.prune import plan as plan
from hf_untangle.prune import prune as prune
from hf_untangle.repairs.repair import repair as repair
from hf_untangle.results.base import restore as restore
from hf_untangle.results.pruned import PruneResult as PruneResult
from hf_untangle.results.unlearned import UnlearnResult as UnlearnResult
from hf_untangle.statistics.collect import collect as collect
from hf_untangle.unlearn import unlearn as unlearn

__version__: str
