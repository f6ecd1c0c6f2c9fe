"""An edge of a feed-forward block, a weight and a neuron are scored by one formula, wherever it is asked for."""

import torch

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.density.neurons import score_neurons
from hf_untangle.density.sweep_config import SweepConfig
from hf_untangle.density.weight_scores import wanda
from hf_untangle.translation.kan.convert import kan_layers_of, to_kan_
from hf_untangle.translation.kan.edge_statistics import collect_edge_statistics
from hf_untangle.translation.kan.edges import edge_strengths


def test_strengths_of_edges_are_the_scores_that_prune_weights_and_neurons(tiny_model):
    model, ids = tiny_model("opt"), torch.randint(0, 64, (2, 9))
    name = "model.decoder.layers.1.fc2"
    weight = model.get_submodule(name).weight
    with torch.no_grad():
        of_weights = wanda(model, lambda model: model(input_ids=ids))(f"{name}.weight", weight)
    groups = tuple(group for group in neuron_groups(model) if group.name == name)
    settings = SweepConfig(score="wanda")
    with torch.no_grad():
        of_neurons = score_neurons(model, groups, settings, lambda model: model(input_ids=ids))[name]
    statistics = collect_edge_statistics(to_kan_(model), [{"input_ids": ids}])[name]
    strengths = edge_strengths(kan_layers_of(model)[name], statistics, "l2").float()
    torch.testing.assert_close(strengths, of_weights)
    torch.testing.assert_close(strengths.norm(dim=0), of_neurons)
