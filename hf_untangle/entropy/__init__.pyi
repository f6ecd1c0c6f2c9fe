"""The public names of this room, and where each is defined."""

from hf_untangle.entropy.neuron_masks import measure_neurons as measure_neurons
from hf_untangle.entropy.neuron_record import NeuronEntropyConfig as NeuronEntropyConfig
from hf_untangle.entropy.neuron_record import NeuronRecord as NeuronRecord
from hf_untangle.papers.contrast.text_items import manual as manual
