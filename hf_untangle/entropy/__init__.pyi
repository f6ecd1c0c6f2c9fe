"""The public names of this room, and where each is defined."""

from hf_untangle.entropy.contrast_config import ContrastExperimentConfig as ContrastExperimentConfig
from hf_untangle.entropy.experiment import run_contrast as run_contrast
from hf_untangle.entropy.images import digits as digits
from hf_untangle.entropy.neuron_masks import measure_neurons as measure_neurons
from hf_untangle.entropy.neuron_record import NeuronEntropyConfig as NeuronEntropyConfig
from hf_untangle.entropy.texts import manual as manual
from hf_untangle.entropy.texts import texts as texts
