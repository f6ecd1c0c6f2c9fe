"""Weights that are computed again whenever the model runs: tried out with masks, refused where they would be written to."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compaction.compact import compact
from hf_untangle.compaction.saving import save_model
from hf_untangle.density.parameters import prunable_parameters
from hf_untangle.errors import UntangleError
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.dampening import dampen_
from hf_untangle.masks.hold_removed import held_parameters
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.masks.rotation import rotate_heads_
from hf_untangle.nets.genes import genes_of
from hf_untangle.repairs.repair import check_removed
from hf_untangle.translation.kan.convert import to_kan_
from hf_untangle.translation.kan.relu_to_kan import relu_to_kan
from hf_untangle.translation.three_layers.three_layer import three_layer


class Doubled(nn.Module):
    """A parametrization."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


MAKERS = {
    "prune": (lambda module: prune.l1_unstructured(module, "weight", 0.3), 'prune.remove(module, "weight")'),
    "old weight norm": (weight_norm, 'remove_weight_norm(module, "weight")'),
    "old spectral norm": (spectral_norm, 'remove_spectral_norm(module, "weight")'),
    "weight norm": (parametrizations.weight_norm, 'remove_parametrizations(module, "weight")'),
    "spectral norm": (parametrizations.spectral_norm, 'remove_parametrizations(module, "weight")'),
    "own": (
        lambda module: nn.utils.parametrize.register_parametrization(module, "weight", Doubled()),
        'remove_parametrizations(module, "weight")',
    ),
}
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")


@pytest.fixture(params=MAKERS)
def recomputed(request, tiny_model):
    """A model some of whose down projections are computed from other parameters, and what ends that."""
    make, remover = MAKERS[request.param]
    model = tiny_model("opt")
    for layer in model.model.decoder.layers:
        make(layer.fc2)
    return model.eval(), remover


def halved(model):
    groups = neuron_groups(model)
    mask = NeuronMask.keep_all(groups, str(model.name_or_path))
    return mask.with_kept({name: torch.arange(len(kept)) % 2 == 0 for name, kept in mask.items()}), groups


def test_a_mask_is_tried_out_as_on_a_model_whose_weights_are_permanent(recomputed, tiny_model, blocks, untouched):
    model, _ = recomputed
    model(blocks.input_ids)  # the old hooks write the weight in a pass
    permanent = tiny_model("opt")
    for own, plain in zip(model.model.decoder.layers, permanent.model.decoder.layers, strict=True):
        plain.fc2.weight.data = own.fc2.weight.detach().clone()
    mask, groups = halved(model)
    with masked(permanent, mask), torch.no_grad():
        expected = permanent(blocks.input_ids).logits
    with untouched(model), masked(model, mask), torch.no_grad():
        tried = model(blocks.input_ids).logits
    torch.testing.assert_close(tried, expected)
    remove_(permanent, mask, groups)
    with torch.no_grad():
        torch.testing.assert_close(permanent(blocks.input_ids).logits, expected)


def removal(model, tmp_path):
    remove_(model, *halved(model))


def dampening(model, tmp_path):
    groups = neuron_groups(model)
    dampen_(model, {group.name: torch.ones(group.size) for group in groups}, groups)


def rotation(model, tmp_path):
    rotate_heads_(model, neuron_groups(model))


def compaction(model, tmp_path):
    compact(model, halved(model)[0])


def repair(model, tmp_path):
    check_removed(model, *halved(model))


def holding(model, tmp_path):
    held_parameters(model, *halved(model))


def saving(model, tmp_path):
    save_model(model, tmp_path)


def density(model, tmp_path):
    prunable_parameters(model)


def ticket(model, tmp_path):
    genes_of(model)


def translation(model, tmp_path):
    to_kan_(model)


WRITERS = (removal, dampening, rotation, compaction, repair, holding, saving, density, ticket, translation)


@pytest.mark.parametrize("write", WRITERS, ids=lambda one: one.__name__)
def test_what_writes_to_weights_refuses_them_by_name_and_says_what_to_call(recomputed, write, tmp_path, untouched):
    model, remover = recomputed
    model.eval()
    with untouched(model), pytest.raises(UntangleError) as refused:
        write(model, tmp_path)
    assert "`model.decoder.layers.0.fc2.weight` is computed by" in str(refused.value)
    assert remover in str(refused.value)


@pytest.mark.parametrize("translate", [relu_to_kan, lambda network: three_layer(network, (-1.0, 1.0))], ids=["kan", "three"])
@pytest.mark.parametrize("maker", MAKERS)
def test_a_network_of_such_weights_is_not_translated(maker, translate):
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    make, remover = MAKERS[maker]
    make(network[2])
    with pytest.raises(UntangleError, match="`2.weight` is computed by"):
        translate(network.eval())


@pytest.mark.parametrize("translate", [relu_to_kan, lambda network: three_layer(network, box=(-1.0, 1.0))])
def test_weights_that_are_not_there_yet_are_refused(translate):
    with pytest.raises(UntangleError, match="`2.weight` is made when its module first runs. Run the model once"):
        translate(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.LazyLinear(1)))
