"""What is attacked: a result, the original that it was made from, and what else stands beside it."""

from copy import deepcopy
from typing import Any, Protocol, cast, runtime_checkable

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.attacks.context import Scene
from hf_untangle.attacks.prompting import NEIGHBORS
from hf_untangle.by_name import ModelName, opened
from hf_untangle.configs.attack import AttackConfig
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.corpora import CorpusSource
from hf_untangle.errors import ConfigError
from hf_untangle.hub.cards import commit_of
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.pruning.step import Pair
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.statistics.fingerprint import weights_fingerprint


@runtime_checkable
class Unlearned(Protocol):
    """What an attack needs of a result: see `UnlearnResult`, which lies above this room."""

    @property
    def model(self) -> PreTrainedModel:
        """The model that has unlearned."""
        ...

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        ...

    @property
    def mask(self) -> NeuronMask:
        """Which neurons stayed."""
        ...

    @property
    def record(self) -> UnlearnRecord:
        """Every setting and every number of the run."""
        ...

    @property
    def held_out(self) -> Pair:
        """The test parts of both corpora."""
        ...


def scene_of(
    result: Unlearned,
    config: AttackConfig,
    original: PreTrainedModel | ModelName | None,
    gold: PreTrainedModel | ModelName | None,
    near: CorpusSource | None,
) -> Scene:
    """Bring together what attacks need, and check that it belongs together.

    Args:
        result: What is attacked.
        config: The settings.
        original: The model before unlearning, or its name; the name in the record when None.
        gold: A model that never learnt the forget corpus, or its name.
        near: A corpus near to the forget corpus; one that is known to be near when None.

    Returns:
        The scene, without a deadline.

    Raises:
        ConfigError: The original is not the one that the result was made from.
    """
    before = _loaded(*_original(result.record) if original is None else (original, None), result.model)
    groups = neuron_groups(before)
    _check_original(before, groups, result)
    blocks = cast(tuple[TokenBlocks, TokenBlocks], (result.held_out.forget, result.held_out.retain))
    forget, retain = (one.first(max(1, config.evaluation_tokens // one.width)) for one in blocks)
    return Scene(
        unlearned=result.model,
        original=before,
        gold=None if gold is None else _loaded(gold, None, result.model),
        mask=result.mask,
        groups=groups,
        tokenizer=cast(PreTrainedTokenizerBase, result.tokenizer),
        forget=forget,
        retain=retain,
        neighbor=NEIGHBORS.get(forget.corpus.name) if near is None else near,
        config=config,
        is_trained=bool(result.record.training),
    )


def _original(record: UnlearnRecord) -> tuple[str, str | None]:
    """What the model before unlearning is loaded by: its name, and its commit on the Hub."""
    return models.loadable_name(record.model, record.revision), commit_of(record.revision)


def _loaded(model: PreTrainedModel | ModelName, revision: str | None, like: PreTrainedModel) -> PreTrainedModel:
    """A model to compare with, in the dtype and on the device of the one that is attacked."""
    return opened(model, dtype=like.dtype, revision=revision).to(like.device)  # type: ignore[arg-type]


def _check_original(original: PreTrainedModel, groups: tuple[NeuronGroup, ...], result: Unlearned) -> None:
    """Refuse an original that the result cannot have been made from."""
    result.mask.check_fits(groups, str(original.name_or_path))
    if result.record.training:
        if result.record.original_weights not in (None, weights_fingerprint(original)):
            raise ConfigError(
                f"The original must be the model that the result was made from, got `{original.name_or_path}`, whose weights "
                "differ. Pass the model before unlearning as `original=`."
            )
        return
    record = result.record
    if record.repairs or record.refit is not None or record.config.ablation != "zero":
        return
    pruned = remove_(deepcopy(original), result.mask, groups).state_dict()
    if not all(torch.equal(value, pruned[name]) for name, value in result.model.state_dict().items()):
        raise ConfigError(
            f"The original must be the model that the result was made from, but `{original.name_or_path}` without the removed "
            "neurons is another model than the result. Pass the model before unlearning as `original=`."
        )
