"""From checkpoint folder to checkpoint folder: what loading, cutting and saving would give, without loading."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_compaction import logits, some_removed
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.meta_models import hollow
from hf_untangle.compaction.compact import compact
from hf_untangle.compaction.folder_to_folder import compact_folder, remove_folder
from hf_untangle.compaction.shards import rewrite_shard
from hf_untangle.errors import CheckpointError, MaskError, OutputError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.survey.tiny_models import tiny_model as survey_model

INDEX = "model.safetensors.index.json"


@pytest.fixture
def checkpoint(tmp_path, tokenizer):
    """Write a model into a folder, in several shards, with its tokenizer."""

    def write(model, shard_size="40KB") -> Path:
        folder = tmp_path / "source"
        model.save_pretrained(folder, max_shard_size=shard_size)
        tokenizer.save_pretrained(folder)
        return folder

    return write


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_hollow_twin_has_the_neurons_of_the_model_it_stands_for(model):
    found, expected = neuron_groups(hollow(type(model), model.config)), neuron_groups(model)
    for twin, group in zip(found, expected, strict=True):
        assert (twin.name, twin.kind, twin.size, twin.heads) == (group.name, group.kind, group.size, group.heads)
        for one, other in zip(twin.producers, group.producers, strict=True):
            assert one.name == other.name and torch.equal(one.rows, other.rows)


def test_the_weights_of_a_hollow_twin_overlap_in_memory(tiny_model):
    model = hollow(type(tiny_model("llama")), tiny_model("llama").config)
    weight = model.get_parameter("model.layers.0.mlp.up_proj.weight")
    assert weight.shape == (48, 32)
    assert weight.untyped_storage().nbytes() == (48 + 32 - 1) * 4
    assert weight[3, 5] == weight[5, 3]


@pytest.mark.parametrize("layout", ["ragged", "uniform"])
def test_a_compacted_folder_is_the_compacted_model(model, blocks, layout, checkpoint, tmp_path):
    source = checkpoint(model)
    mask = some_removed(neuron_groups(model))
    before = content(source)
    record = compact_folder(source, tmp_path / "small", mask, layout=layout)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    expected = compact(model, mask, layout=layout)
    assert torch.equal(logits(loaded, blocks.input_ids), logits(expected, blocks.input_ids))
    assert record.parameters_after < record.parameters_before
    assert content(source) == before


def test_a_folder_with_removed_neurons_is_the_removed_model(model, blocks, checkpoint, tmp_path):
    source = checkpoint(model)
    groups = neuron_groups(model)
    mask = some_removed(groups)
    record = remove_folder(source, tmp_path / "removed", mask)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "removed")
    assert torch.equal(logits(loaded, blocks.input_ids), logits(remove_(model, mask, groups), blocks.input_ids))
    assert record.parameters_after == record.parameters_before


def test_removed_neurons_are_read_off_the_files(tiny_model, checkpoint, tmp_path):
    model = tiny_model("llama")
    source = checkpoint(model)
    mask = some_removed(neuron_groups(model))
    remove_folder(source, tmp_path / "removed", mask)
    compact_folder(tmp_path / "removed", tmp_path / "read")
    compact_folder(source, tmp_path / "told", mask)
    read, told = (content(tmp_path / name) for name in ("read", "told"))
    assert all(read[name] == told[name] for name in told if name.endswith(".safetensors"))


def test_shards_index_tokenizer_and_generation_settings_are_carried_over(tiny_model, checkpoint, tmp_path, tokenizer):
    model = tiny_model("llama")
    source = checkpoint(model)
    (source / "README.md").write_text("Says what the whole model can do.")
    target = tmp_path / "small"
    record = compact_folder(source, target, some_removed(neuron_groups(model)))
    old, new = (json.loads((folder / INDEX).read_text()) for folder in (source, target))
    assert len(set(new["weight_map"].values())) > 1
    assert new["weight_map"] == old["weight_map"]
    tensors = [tensor for file in set(new["weight_map"].values()) for tensor in load_file(target / file).values()]
    assert new["metadata"]["total_parameters"] == sum(map(torch.numel, tensors)) == record.parameters_after
    assert new["metadata"]["total_size"] == 4 * record.parameters_after
    assert AutoTokenizer.from_pretrained(target).get_vocab() == tokenizer.get_vocab()
    assert (target / "generation_config.json").read_bytes() == (source / "generation_config.json").read_bytes()
    assert not (target / "README.md").exists()
    assert json.loads((target / "untangle.json").read_text())["removed"].startswith("removes")


def test_a_shard_without_edits_is_written_as_safetensors_writes_it(tmp_path):
    tensors = {"a": torch.randn(3, 5).bfloat16(), "b": torch.arange(7), "c": torch.tensor(2.5), "none": torch.zeros(4, 0)}
    save_file(tensors, tmp_path / "old", metadata={"format": "pt"})
    rewrite_shard(tmp_path / "old", tmp_path / "new", {})
    new = load_file(tmp_path / "new")
    assert new.keys() == tensors.keys()
    assert all(torch.equal(new[name], tensor) and new[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_a_single_file_stays_one(tiny_model, checkpoint, tmp_path):
    model = tiny_model("llama", tie_word_embeddings=True)
    source = checkpoint(model, "1GB")
    compact_folder(source, tmp_path / "small", some_removed(neuron_groups(model)))
    assert (tmp_path / "small" / "model.safetensors").exists() and not (tmp_path / "small" / INDEX).exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "a folder with a checkpoint, but it has no config.json"),
        (
            lambda folder: (folder / INDEX).unlink(),
            "must hold model.safetensors or model.safetensors.index.json, but it has neither",
        ),
        (lambda folder: next(folder.glob("*-00002-*")).unlink(), "names the shard `model-00002-of-.*`, but it is missing"),
        (
            lambda folder: next(folder.glob("*-00002-*")).write_bytes(b"no"),
            "model-00002.* must hold a shard of a checkpoint, got 2 bytes",
        ),
        (lambda folder: rename_tensor(folder, "lm_head.weight", "odd.weight"), "but `odd.weight` in .* is none"),
        (lambda folder: rename_tensor(folder, "lm_head.weight", None), "says that `lm_head.weight` is in .*, but it is not"),
        (lambda folder: quantized(folder), "must be in full precision to be cut, but they are quantized. Calibrate on"),
        (lambda folder: settings(folder, intermediate_size=40), r"must have the shape \[.*40.*\] that config.json states"),
    ],
)
def test_a_damaged_source_is_named_and_nothing_is_written(tiny_model, checkpoint, tmp_path, damage, message):
    model = tiny_model("llama")
    source = checkpoint(model)
    damage(source)
    for work in (compact_folder, remove_folder):
        with pytest.raises(CheckpointError, match=message):
            work(source, tmp_path / "target", some_removed(neuron_groups(model)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def rename_tensor(folder: Path, name: str, new: str | None) -> None:
    """Rename a tensor in its shard and in the index; without a new name, take it out of the shard alone."""
    index = json.loads((folder / INDEX).read_text())
    file = folder / index["weight_map"][name]
    tensors = load_file(file)
    tensor = tensors.pop(name)
    if new is not None:
        tensors[new] = tensor
        index["weight_map"][new] = index["weight_map"].pop(name)
    save_file(tensors, file, metadata={"format": "pt"})
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
    "name",
    [
        *("../neighbor/model.safetensors", "{neighbor}/model.safetensors", "..", "", ".", "a/../model.safetensors"),
        *("..\\neighbor\\model.safetensors", "C:model.safetensors", "model.safetensors\0", "config.json", 7, None, ["x"]),
    ],
)
def test_an_index_that_names_files_elsewhere_is_refused_before_anything_is_opened(tiny_model, checkpoint, tmp_path, name):
    model = tiny_model("llama")
    source, neighbor = checkpoint(model), tmp_path / "neighbor"
    model.save_pretrained(neighbor)
    index = json.loads((source / INDEX).read_text())
    name = name.format(neighbor=neighbor) if isinstance(name, str) else name
    (source / INDEX).write_text(json.dumps(index | {"weight_map": dict.fromkeys(index["weight_map"], name)}))
    before = content(source), content(neighbor)
    for work in (compact_folder, remove_folder):
        with pytest.raises(CheckpointError, match="must name|must map"):
            work(source, tmp_path / "target", some_removed(neuron_groups(model)))
    assert (content(source), content(neighbor)) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["neighbor", "source"]


def test_links_out_of_a_checkpoint_are_not_carried_along(tiny_model, checkpoint, tmp_path):
    model = tiny_model("llama")
    source = checkpoint(model)
    (tmp_path / "key").write_text("secret")
    (source / "tokenizer_key.json").symlink_to(tmp_path / "key")
    (source / "vocab.txt").symlink_to("../key")
    for work in (compact_folder, remove_folder):
        work(source, tmp_path / work.__name__, some_removed(neuron_groups(model)))
        names = content(tmp_path / work.__name__)
        assert "tokenizer.json" in names and not {"tokenizer_key.json", "vocab.txt"} & names.keys()


@pytest.mark.parametrize("name", ["config.json", INDEX, "model-00001-of-*"])
def test_a_checkpoint_whose_own_files_are_links_elsewhere_is_refused(tiny_model, checkpoint, tmp_path, name):
    model = tiny_model("llama")
    source = checkpoint(model)
    file = next(source.glob(name))
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="got a link to a place outside the folder"):
        remove_folder(source, tmp_path / "target", some_removed(neuron_groups(model)))


def test_a_snapshot_in_the_cache_of_the_hub_is_a_checkpoint_of_its_own(tiny_model, checkpoint, tmp_path):
    model = tiny_model("llama")
    source = checkpoint(model)
    blobs, snapshot = tmp_path / "models--me--it" / "blobs", tmp_path / "models--me--it" / "snapshots" / "0f"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(source.iterdir()):
        shutil.copy2(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    mask = some_removed(neuron_groups(model))
    remove_folder(source, tmp_path / "plain", mask)
    remove_folder(snapshot, tmp_path / "linked", mask)
    plain, linked = content(tmp_path / "plain"), content(tmp_path / "linked")
    assert plain.keys() == linked.keys()
    assert all(plain[name] == linked[name] for name in plain if name != "untangle.json")


def settings(folder: Path, **values) -> None:
    """Change the configuration."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def quantized(folder: Path) -> None:
    """Say that the weights are in 4 bits."""
    settings(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})


def test_a_mask_of_another_model_writes_nothing(tiny_model, checkpoint, tmp_path):
    source = checkpoint(tiny_model("llama"))
    mask = some_removed(neuron_groups(tiny_model("llama", intermediate_size=64)))
    for work in (compact_folder, remove_folder):
        with pytest.raises(MaskError, match="64 neurons for .* it has 48"):
            work(source, tmp_path / "target", mask)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError("disk full")])
def test_an_interruption_leaves_no_target_and_the_source_as_it_was(tiny_model, checkpoint, tmp_path, monkeypatch, stop):
    model = tiny_model("llama")
    source = checkpoint(model)
    before = content(source)
    written = []

    def write_one_and_stop(*arguments):
        if written:
            raise stop
        written.append(rewrite_shard(*arguments))
        return written[-1]

    monkeypatch.setattr("hf_untangle.compaction.folder_to_folder.rewrite_shard", write_one_and_stop)
    with pytest.raises(KeyboardInterrupt if stop is KeyboardInterrupt else OutputError):
        compact_folder(source, tmp_path / "target", some_removed(neuron_groups(model)))
    assert written and sorted(path.name for path in tmp_path.iterdir()) == ["source"]
    assert content(source) == before


def test_a_folder_that_is_not_ours_is_not_replaced(tiny_model, checkpoint, tmp_path):
    model = tiny_model("llama")
    source = checkpoint(model)
    shutil.copytree(source, tmp_path / "theirs")
    with pytest.raises(OutputError, match="was not written by hf_untangle"):
        compact_folder(source, tmp_path / "theirs", NeuronMask.keep_all(neuron_groups(model), "m"))


@pytest.mark.parametrize("model_type", ["mixtral", "deepseek_v3", "phimoe", "gpt_oss"])
def test_experts_that_a_checkpoint_holds_one_by_one_are_cut_and_zeroed(model_type, tmp_path):
    model = survey_model(model_type)
    model.save_pretrained(tmp_path / "source", max_shard_size="20KB")
    groups = neuron_groups(model)
    whole = NeuronMask.keep_all(groups, str(tmp_path / "source"))
    half = whole.with_kept({name: torch.arange(len(kept)) % 3 > 0 for name, kept in whole.items()})
    ids = torch.arange(9)[None]
    compact_folder(tmp_path / "source", tmp_path / "small", half, layout="uniform")
    remove_folder(tmp_path / "source", tmp_path / "removed", half)
    small, removed = (type(model).from_pretrained(tmp_path / name) for name in ("small", "removed"))
    assert torch.equal(logits(small, ids), logits(compact(model, half, layout="uniform"), ids))
    assert torch.equal(logits(removed, ids), logits(remove_(model, half, groups), ids))
    record = compact_folder(tmp_path / "removed", tmp_path / "again", layout="uniform")
    # Buffers, such as the correction biases of a router, are numbers of the checkpoint too.
    assert record.parameters_after == sum(value.numel() for value in small.state_dict().values())
