"""Every loader of a file, with a small file that it loads, and what a loaded thing is used for."""

import json
import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from file_mutations import BYTES, JSON, PICKLED, RECORDED, SAFETENSORS, Mutation
from records import a_mask, a_record, groups
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.compaction.folder_to_folder import remove_folder
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.corpora import Corpus
from hf_untangle.data.own_text_file import FILE as OWN_TEXT
from hf_untangle.data.own_text_file import load_own_text, save_own_text
from hf_untangle.data.splits import PARTS
from hf_untangle.errors import MaskError
from hf_untangle.masks.mask import FILE, NeuronMask
from hf_untangle.masks.mask_path import load_mask_path, save_mask_path
from hf_untangle.masks.undo_removal import RemovedWeights, cut_out_, put_back_
from hf_untangle.nets.functional import Program
from hf_untangle.nets.genes import genes_of
from hf_untangle.nets.record import Ticket
from hf_untangle.nets.ticket_search import NetsConfig, _Evolution, search
from hf_untangle.pruning.resume import Journal
from hf_untangle.recipes.read import read_recipe
from hf_untangle.records.saved import read_run_record
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting.model_card import model_card
from hf_untangle.statistics.accumulators import GroupSums
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.checkpoint import Checkpoint
from hf_untangle.statistics.moments import Moments
from hf_untangle.translation.kan.kan_files import holds_kan, load_kan, save_kan
from hf_untangle.translation.kan.piecewise_linear_layer import random_kan_layer
from hf_untangle.translation.kan.relu_to_kan import relu_to_kan
from hf_untangle.translation.mlp_files import load_mlp, save_mlp

NAMES = ("a.mlp.down_proj", "a.self_attn.o_proj")


@dataclass(frozen=True)
class Loader:
    """A loader with a file of its own."""

    file: Path
    """What is mutated; the rest of its folder stays."""
    mutations: tuple[Mutation, ...]
    load: Callable[[], Any]
    """Loads the file, and uses what was loaded."""
    slow: bool = False
    """Whether loading takes more than a few milliseconds."""
    names_keys: bool = False
    """Whether its errors name a key instead of the file, of which there is only one."""


def loaders(folder: Path) -> dict[str, Loader]:
    """Write a file for every loader.

    Args:
        folder: Where; one folder each.

    Returns:
        The loaders by name.
    """
    made: dict[str, Loader] = {}
    first = (_masks, _removed, _statistics, _collection, _journal, _nets)
    for make in (*first, _translations, _records, _recipe, _own_text, _checkpoint):
        made |= make(folder / make.__name__)
    return made


def mask(kept: float = 0.7, seed: int = 0) -> NeuronMask:
    drawn = {name: torch.rand(12, generator=torch.Generator().manual_seed(seed)) < kept for name in NAMES}
    return NeuronMask(drawn, dict(zip(NAMES, ("ffn", "attention"), strict=True)), "tiny", revision="0f")


def _masks(folder: Path) -> dict[str, Loader]:
    mask().save(folder / FILE)
    save_mask_path(folder / "path", [mask(0.9), mask(0.9) & mask(0.7, 1), mask(0.9) & mask(0.7, 1) & mask(0.7, 2)])
    mask().to_adapter(folder / "adapter")
    adapter = {
        name: Loader(folder / "adapter" / name, kinds, lambda: _used_mask(NeuronMask.from_adapter(folder / "adapter")))
        for name, kinds in {"adapter_model.safetensors": SAFETENSORS, "untangle.json": JSON}.items()
    }
    return {
        "mask": Loader(folder / FILE, RECORDED, lambda: _used_mask(NeuronMask.load(folder / FILE))),
        "mask from a folder": Loader(folder / FILE, RECORDED, lambda: _used_mask(NeuronMask.from_pretrained(folder))),
        "mask path": Loader(
            folder / "path", RECORDED, lambda: [_used_mask(one) for one in load_mask_path(folder / "path")[:50]]
        ),
        **{f"adapter: {name}": loader for name, loader in adapter.items()},
    }


def _used_mask(loaded: NeuronMask) -> None:
    assert loaded.describe()
    assert all(one.dtype == torch.bool and one.ndim == 1 for one in loaded.values())


def _tiny() -> Any:
    settings = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **settings)).eval()


def _removed(folder: Path) -> dict[str, Loader]:
    model = _tiny()
    found = neuron_groups(model)
    drawn = {group.name: torch.arange(group.size) > 2 for group in found}
    removed = cut_out_(model, NeuronMask(drawn, {group.name: group.kind for group in found}, "tiny"), found)
    removed.save(folder / "removed")
    before, settings = deepcopy(model.state_dict()), model.config.to_dict()

    def load() -> None:
        loaded = RemovedWeights.load(folder / "removed")
        try:
            put_back_(model, loaded)
        except MaskError:
            assert all(torch.equal(before[name], one) for name, one in model.state_dict().items())
        finally:
            model.load_state_dict(before)
        assert model.config.to_dict() == settings

    return {"removed weights": Loader(folder / "removed", RECORDED, load)}


def _statistics(folder: Path) -> dict[str, Loader]:
    drawn = torch.rand(5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sums = (torch.tensor(40), drawn[0], drawn[0] + 1, drawn[1], (10 * drawn[2]).round())
    moments = {"a": Moments(*sums, root=drawn[3], spread=drawn[4]), "b": Moments(*sums, routed=torch.tensor([30, 35, 40]))}
    ActivationStatistics(moments, "tiny", None, "float32", ({"tokens": 40},)).save(folder / "statistics")

    def load() -> None:
        loaded = ActivationStatistics.load(folder / "statistics")
        assert loaded.tokens >= 0
        assert all(one.is_finite() and one.squared_deviations.isfinite().all() for one in loaded.values())

    return {"statistics": Loader(folder / "statistics", RECORDED, load)}


def _collection(folder: Path) -> dict[str, Loader]:
    group = NeuronGroup("a", "ffn", 0, 9, ())

    def checkpoint() -> Checkpoint:
        made = Checkpoint.__new__(Checkpoint)
        made._sums, made._written = GroupSums([group]), 0
        made._sums._kept["a"] = made._sums._empty("a", torch.device("cpu"))
        made._sums._kept["a"].update(torch.ones(4, 9))
        made._batches = cast(Any, SimpleNamespace(done=4, size=2, total=8))
        return made

    checkpoint()._write(folder / "collection")
    return {"collection": Loader(folder / "collection", RECORDED, lambda: checkpoint()._go_on(folder / "collection"))}


def _journal(folder: Path) -> dict[str, Loader]:
    record = a_record()
    journal, step = Journal(folder), record.history.steps[0]
    kept = a_mask(record)
    journal.write(step.model_copy(update={"removed": {kind: kept.removed(kind) for kind in ("ffn", "attention")}}), kept)
    return {
        "journal: record": Loader(folder / "step-001.json", BYTES, journal.read),
        "journal: mask": Loader(folder / "step-001.safetensors", RECORDED, journal.read),
    }


def _nets(folder: Path) -> dict[str, Loader]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    inputs = torch.randn(16, 3)
    data = (inputs, (inputs[:, 0] > 0).long())
    config = NetsConfig(population=4, generations=1, steps=1, batch_size=4)
    search(network, data, data, config=config, checkpoint=folder / "search", progress=False).save(folder / "ticket")
    program = Program(network, genes_of(network), nn.functional.cross_entropy, None)
    evolution = _Evolution(program, data, data, config, folder / "search")
    return {
        "ticket": Loader(folder / "ticket", RECORDED, lambda: Ticket.load(folder / "ticket").densities()),
        "search": Loader(folder / "search", RECORDED, evolution._resumed),
    }


def _translations(folder: Path) -> dict[str, Loader]:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.2), nn.Linear(4, 2))
    save_kan(relu_to_kan(network), folder / "kan")
    save_kan(
        nn.Sequential(random_kan_layer(3, 4, torch.linspace(-2, 2, 5)), random_kan_layer(4, 2, torch.zeros(1))),
        folder / "splines",
    )
    save_mlp(network, folder / "mlp.safetensors")
    torch.save(network.state_dict(), folder / "state.pt")
    torch.save(network, folder / "object.pt")

    def used(module: nn.Module) -> None:
        first = next(one for one in module.modules() if hasattr(one, "in_features"))
        assert module(torch.zeros(2, cast(int, first.in_features), dtype=next(module.parameters()).dtype)).ndim == 2

    return {
        "kan": Loader(folder / "kan", RECORDED, lambda: (holds_kan(folder / "kan"), used(load_kan(folder / "kan")))),
        "splines": Loader(folder / "splines", RECORDED, lambda: used(load_kan(folder / "splines"))),
        "mlp": Loader(folder / "mlp.safetensors", SAFETENSORS, lambda: load_mlp(folder / "mlp.safetensors")),
        "state dict": Loader(folder / "state.pt", PICKLED, lambda: load_mlp(folder / "state.pt")),
        "module": Loader(folder / "object.pt", PICKLED, lambda: load_mlp(folder / "object.pt")),
    }


def _records(folder: Path) -> dict[str, Loader]:
    folder.mkdir(parents=True, exist_ok=True)
    record = a_record(groups=groups()[:2])
    (folder / "untangle.json").write_text(record.model_dump_json())
    return {"record": Loader(folder / "untangle.json", JSON, lambda: model_card(read_run_record(folder, UnlearnRecord), None))}


def _own_text(folder: Path) -> dict[str, Loader]:
    texts: dict[Any, Any] = {part: partial(iter, [f"{part} {number}" for number in range(3)]) for part in PARTS}
    written = Corpus("self", "self", "text that the model wrote itself", "unknown", partial(iter, ()), own=texts)
    ids = torch.ones(1, 4).long()
    folder.mkdir()
    save_own_text(TokenBlocks(ids, ids.bool(), ids.bool(), written, "test", documents=1), folder)

    def load() -> None:
        loaded = load_own_text(folder)
        assert all(isinstance(text, str) for part in PARTS for text in loaded.documents(part))

    return {"own text": Loader(folder / OWN_TEXT, JSON, load)}


def _recipe(folder: Path) -> dict[str, Loader]:
    folder.mkdir(parents=True, exist_ok=True)
    recipe = {"task": "unlearn", "model": "smollm2", "forget": "code", "output": "x"}
    (folder / "recipe.yaml").write_text(json.dumps(recipe | {"settings": {"steps": 2, "retain_budget": 0.1}}))
    return {"recipe": Loader(folder / "recipe.yaml", JSON, lambda: read_recipe(folder / "recipe.yaml"), names_keys=True)}


def _checkpoint(folder: Path) -> dict[str, Loader]:
    model = _tiny()
    model.save_pretrained(folder / "source", max_shard_size="4KB")
    found = neuron_groups(model)
    kept = NeuronMask.keep_all(found, "tiny")
    shard = next((folder / "source").glob("*00001-of*"))
    runs = iter(range(10**9))

    def load() -> None:
        remove_folder(folder / "source", folder / f"target-{next(runs)}", kept)

    files = {shard.name: SAFETENSORS, "model.safetensors.index.json": JSON, "config.json": JSON}
    return {f"checkpoint: {name}": Loader(folder / "source" / name, kinds, load, slow=True) for name, kinds in files.items()}


def mutated(loader: Loader, content: bytes, draws: random.Random) -> bytes:
    """One mutation of a file, or two."""
    changed = draws.choice(loader.mutations)(content, draws)
    if changed and draws.random() < 0.15:
        changed = draws.choice(loader.mutations[:5])(changed, draws)
    return changed
