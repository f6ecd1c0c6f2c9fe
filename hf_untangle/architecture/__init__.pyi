"""The public names of this room, and where each is defined."""

from hf_untangle.architecture.by_hand import groups_by_hand as groups_by_hand
from hf_untangle.architecture.locate import neuron_groups as neuron_groups
from hf_untangle.architecture.neurons import Kind as Kind
from hf_untangle.architecture.neurons import NeuronGroup as NeuronGroup
from hf_untangle.architecture.neurons import NeuronGroups as NeuronGroups
