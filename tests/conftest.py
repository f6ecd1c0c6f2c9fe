"""What many tests need: a tokenizer that knows every text, tiny models of every family, and blocks of tokens."""

from checked_types import check_modules_with_shapes

check_modules_with_shapes()  # Before anything imports the package.

import gc
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import run_forked, start_server
from hub_server import WRITER, running_hub
from huggingface_hub import constants, hf_api
from public_hub import answer_as_hub
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from toy_languages import NUMBERS, TOY_CONFIG, WORDS, trained_model
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.corpora import Corpus
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.pruning.iterative import Search, search_mask
from hf_untangle.pruning.step import Pair, read_pair
from hf_untangle.results.unlearned import UnlearnResult
from hf_untangle.unlearn import unlearn

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())

TOKENS = {"vocab_size": 258, "bos_token_id": None, "eos_token_id": 256, "pad_token_id": 257}
COMMON = TOKENS | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
GROUPED = COMMON | {"num_key_value_heads": 2}
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

FAMILIES: dict[str, dict] = {
    "llama": GROUPED,
    "mistral": GROUPED | {"sliding_window": 16},
    "qwen2": GROUPED,
    "qwen3": GROUPED | {"head_dim": 16},
    "gemma2": GROUPED | {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 16, "final_logit_softcapping": 2.0},
    "phi3": GROUPED,
    "gpt2": TOKENS | {"n_embd": 32, "n_inner": 48, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "opt": TOKENS
    | {
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    },
    "gpt_neox": COMMON,
}
"""Settings of a tiny model of every family: 2 layers, 4 heads, grouped queries where the family has them."""


LONGEST = (
    "test_tasks.py",
    "test_docs_code.py",
    "test_ragged.py",
    "test_distributed.py",
    "test_unlearn.py",
    "test_callbacks_matrix.py",
    "test_cli_processes.py",
    "test_support_table.py",
    "test_interruptions.py",
    "test_ablation.py",
    "test_compaction.py",
    "test_compaction_folders.py",
    "test_statistics.py",
    "test_adapter.py",
)
"""Files that take longest: they come first, so that no worker is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name tests alike in every process: compressed bytes hold the time at which they were made."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny tensors are faster without a second thread, and sums are always taken in the same order."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def what_is_there_is_no_garbage() -> None:
    """A Trainer collects garbage when it begins, which takes seconds where it looks through all that earlier files left."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory) -> Iterator[None]:
    """A cache folder for what tests share, so that nothing of the user's is read or written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_UNTANGLE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HF_UNTANGLE_CACHE", str(folder))
    return folder


@pytest.fixture
def public_hub(tmp_path, monkeypatch) -> list[tuple]:
    """A Hub with the public sets of two rows each, and what was opened there."""
    return answer_as_hub(monkeypatch, tmp_path)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte (ids 0 to 255), EOS `<eos>` with id 256 and padding `<pad>` with id 257; no BOS."""
    vocabulary = {character: number for number, character in enumerate(BYTES)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=BYTES[0]))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            pre_tokenizers.Split(Regex("."), behavior="isolated"),
        ]
    )
    backend.decoder = decoders.Sequence([decoders.Fuse(), decoders.ByteLevel()])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>", model_max_length=64)


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., PreTrainedModel]:
    """Make a tiny model of a family, the same every time, with biases and norms that are not the initial 0 and 1."""

    def make(family: str, **settings: Any) -> PreTrainedModel:
        config = AutoConfig.for_model(family, **FAMILIES[family] | settings)
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
        model.name_or_path = f"tiny-{family}"
        return model.eval()

    return make


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    """Every family in turn."""
    return request.param


@pytest.fixture
def model(tiny_model, family) -> PreTrainedModel:
    """A tiny model of every family in turn."""
    return tiny_model(family)


@pytest.fixture(scope="session")
def taught(tiny_model, tokenizer) -> PreTrainedModel:
    """A model that knows two toy languages; tests that may change it take `toy_model`."""
    return trained_model(tiny_model, tokenizer)


@pytest.fixture
def toy_model(taught) -> PreTrainedModel:
    """A copy of the model that knows two toy languages."""
    return deepcopy(taught)


@pytest.fixture(scope="session")
def pairs(tokenizer) -> tuple[Pair, Pair]:
    """Train and validation blocks of numbers to forget and words to retain, as a run reads them."""
    train, validation = (read_pair(NUMBERS, WORDS, tokenizer, part, TOY_CONFIG) for part in ("train", "validation"))
    return train, replace(validation, further=())


@pytest.fixture(scope="session")
def run_search(pairs) -> Callable[..., Search]:
    """Run the loop on a model that knows the toy languages."""

    def run(model: PreTrainedModel, config: UnlearnConfig = TOY_CONFIG, **settings: Any) -> Search:
        return search_mask(model, neuron_groups(model), *pairs, config=config.with_settings(**settings), progress=False)

    return run


@pytest.fixture(scope="session")
def finished(taught, run_search) -> Search:
    """A run that nothing disturbed."""
    found = run_search(taught)
    found.journal.close()
    return found


@pytest.fixture
def search(toy_model, run_search) -> Callable[..., Search]:
    """Run the loop on `toy_model`."""
    return partial(run_search, toy_model)


@pytest.fixture(scope="session")
def unlearned(taught, tokenizer) -> UnlearnResult:
    """Three steps on a copy of the toy model, the removed weights kept; a test that changes its model takes a copy."""
    settings = {"tokenizer": tokenizer, "config": TOY_CONFIG, "steps": 3, "controls": 1, "progress": False}
    return unlearn(deepcopy(taught), NUMBERS, WORDS, keep_removed=True, **settings)


@pytest.fixture(scope="session")
def strongly_pruned(taught, finished) -> tuple[PreTrainedModel, NeuronMask]:
    """The toy model after the strongest step of its run, which costs the retain corpus something too, with its mask."""
    model, mask = deepcopy(taught), finished.masks[-1]
    return remove_(model, mask, neuron_groups(model)), mask


@pytest.fixture
def no_report(monkeypatch) -> None:
    """The report of a result, which takes seconds to draw, is a word."""
    monkeypatch.setattr(
        "hf_untangle.results.unlearned.write_report", lambda folder, *_, **__: (folder / "README.md").write_text("# A card")
    )


@pytest.fixture(scope="session")
def blocks_of() -> Callable[..., TokenBlocks]:
    """Make blocks from token ids, and from which of them are padding and which count."""

    made = Corpus("made", "strings", "made in a test", "unknown", lambda: iter(()))

    def make(ids: Tensor, mask: Tensor | None = None, counted: Tensor | None = None) -> TokenBlocks:
        mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        return TokenBlocks(ids, mask, mask if counted is None else counted, made, "train", documents=len(ids))

    return make


@pytest.fixture(scope="module")
def project(taught, tokenizer, tmp_path_factory) -> Path:
    """A folder with a checkpoint `toy`, and the corpora `numbers.jsonl` and `words.jsonl`."""
    folder = tmp_path_factory.mktemp("project")
    taught.save_pretrained(folder / "toy")
    tokenizer.save_pretrained(folder / "toy")
    for name, texts in (("numbers", NUMBERS), ("words", WORDS)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


@pytest.fixture(scope="session")
def forked(tmp_path_factory) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run a command or a script in processes of its own, which need not wait for imports; see `run_forked`."""
    start_server()
    return partial(run_forked, tmp_path_factory.mktemp("forked"))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on this machine, with a user who is logged in and may write."""
    with running_hub() as server:
        for name, value in {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
            "HF_HUB_DISABLE_XET": True,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(hf_api.api, "endpoint", server.url)
        monkeypatch.setenv("HF_TOKEN", WRITER)
        yield server


@pytest.fixture(scope="session")
def blocks(blocks_of) -> TokenBlocks:
    """Six blocks of twelve random tokens."""
    return blocks_of(torch.randint(256, (6, 12), generator=torch.Generator().manual_seed(1)))


@pytest.fixture(scope="session")
def padded_blocks(blocks_of, blocks) -> TokenBlocks:
    """The same blocks, cut to 12, 9, 5, 2, 7 and 12 tokens and padded on the right."""
    mask = torch.arange(12) < torch.tensor([12, 9, 5, 2, 7, 12])[:, None]
    return blocks_of(blocks.input_ids.masked_fill(~mask, 257), mask)


@pytest.fixture(scope="session")
def untouched() -> Callable[[nn.Module], AbstractContextManager[None]]:
    """Check that a model is bit for bit as it was after the `with` block, in its modes, gradients and hooks too."""

    @contextmanager
    def check(model: nn.Module) -> Iterator[None]:
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        state = _state_beside_weights(model)
        yield
        assert _state_beside_weights(model) == state
        assert model.state_dict().keys() == weights.keys()
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())

    return check


def _state_beside_weights(model: nn.Module) -> list[tuple]:
    modules = [
        (name, module.training, "forward" in vars(module), *(len(vars(module)[hooks]) for hooks in HOOKS))
        for name, module in model.named_modules()
    ]
    return modules + [(name, one.requires_grad, one.grad is None) for name, one in model.named_parameters()]
