"""Norms of the weights that read and compute a neuron."""

import pytest
import torch
from torch import nn

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup, Producer
from hf_untangle.architecture.projections import bias_of, input_axis, weight_of
from hf_untangle.errors import StatisticsError
from hf_untangle.statistics.weight_norms import weight_norms


def test_norms_by_hand():
    model = nn.ModuleDict({"up": nn.Linear(2, 2), "down": nn.Linear(2, 2, bias=False)})
    with torch.no_grad():
        model["up"].weight.copy_(torch.tensor([[2.0, 4.0], [0.0, 0.0]]))
        model["up"].bias.copy_(torch.tensor([4.0, 1.0]))
        model["down"].weight.copy_(torch.tensor([[3.0, 0.0], [4.0, 2.0]]))
    group = NeuronGroup("down", "ffn", 0, 2, (Producer("up", torch.arange(2)),))
    norms = weight_norms(model, [group])["down"]
    assert norms.column.tolist() == [5, 2]
    assert norms.rows.tolist() == [6, 1]


def test_norms_are_those_of_the_columns_and_rows_in_every_family(model):
    for group in neuron_groups(model):
        norms = weight_norms(model, [group])[group.name]
        down = model.get_submodule(group.name)
        columns = weight_of(down) if input_axis(down) else weight_of(down).T
        torch.testing.assert_close(norms.column, columns.double().norm(dim=0).detach())
        squares = torch.zeros(group.size).double()
        for producer in group.producers:
            projection = model.get_submodule(producer.name)
            rows = (weight_of(projection) if input_axis(projection) else weight_of(projection).T)[producer.rows]
            squares += rows.double().square().sum(1).detach()
            bias = bias_of(projection)
            squares += 0 if bias is None else bias[producer.rows].double().square().detach()
        torch.testing.assert_close(norms.rows, squares.sqrt())


def test_weights_that_are_not_numbers_are_refused(tiny_model):
    model = tiny_model("llama")
    groups = neuron_groups(model)
    down = model.get_submodule(groups[0].name)
    down.weight = nn.Parameter(torch.zeros(down.weight.shape, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(StatisticsError, match="in floating point, or in 8 or 4 bits of bitsandbytes, .* such as rms"):
        weight_norms(model, groups)
