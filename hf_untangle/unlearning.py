"""Unlearn a capability with one call, and keep what came of it together."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Unpack

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.biases import check_biases
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compaction.compact import compact
from hf_untangle.compaction.stays import Layout
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.corpora import Corpus, CorpusSource, Part, corpus
from hf_untangle.data.tokenizers import find_tokenizer
from hf_untangle.distributed import in_main
from hf_untangle.errors import ConfigError, CorpusError, MaskError
from hf_untangle.evaluation.generation import continuations
from hf_untangle.folders import MARKER, whole_folder
from hf_untangle.hub.cards import licence_of
from hf_untangle.hub.upload import REMOVED, PushOptions, push_folder
from hf_untangle.masks.apply import masked
from hf_untangle.masks.ladder import LADDER, save_ladder
from hf_untangle.masks.mask import FILE, NeuronMask
from hf_untangle.masks.removal import check_removable, remove_, removed_parameters
from hf_untangle.masks.select import random_like
from hf_untangle.masks.undo import RemovedWeights, cut_out_, put_back_
from hf_untangle.pruning.config import PRESETS, UnlearnConfig, nearest
from hf_untangle.pruning.evidence import Pair, read_pair
from hf_untangle.pruning.iterative import Search, judge, search_mask
from hf_untangle.pruning.provenance import counts, device_name, versions
from hf_untangle.pruning.record import Comparison, Continuation, History, Scores, UnlearnRecord
from hf_untangle.repairing.config import RepairConfig
from hf_untangle.repairing.repair import repair_measured
from hf_untangle.reporting.ladder import write_ladder
from hf_untangle.reporting.write import write_report
from hf_untangle.statistics.activations import ActivationStatistics

PROMPT_TOKENS = 24
"""Length of the prompts that are taken from held-out text when none are given."""


@dataclass(frozen=True, eq=False)
class UnlearnResult:
    """A model that has unlearned, with everything that was measured on the way."""

    model: PreTrainedModel
    """The model that was passed in, its neurons removed."""
    tokenizer: PreTrainedTokenizerBase
    mask: NeuronMask
    """Which neurons stayed."""
    ladder: tuple[NeuronMask, ...]
    """The mask of every step, weakest first."""
    record: UnlearnRecord
    """Every setting and every number."""
    forget: ActivationStatistics
    """Statistics of the original model on the forget corpus."""
    retain: ActivationStatistics
    """The same on the retain corpus."""
    held_out: Pair
    """The test parts of both corpora."""
    removed: RemovedWeights | None = None
    """What was removed, where `unlearn(..., keep_removed=True)` kept it: `restore` puts it back."""

    @property
    def history(self) -> History:
        """The steps, judged on the validation parts."""
        return self.record.history

    def compact(self, *, layout: Layout = "ragged", round_to: int | None = None) -> PreTrainedModel:
        """Take the removed neurons out of the tensors, see `hf_untangle.compact`.

        Args:
            layout: `ragged`, where every layer is as narrow as it can be, or `uniform`, which loads without this package.
            round_to: FFN widths are rounded up to a multiple of this.

        Returns:
            A smaller model with the same logits; `model` stays as it is.
        """
        return compact(self.model, self.mask, layout=layout, round_to=round_to)

    def repair(
        self,
        retain: CorpusSource | None = None,
        *,
        original: PreTrainedModel | str | None = None,
        progress: bool = True,
        **settings: object,
    ) -> "UnlearnResult":
        """Train the model on the retain corpus alone, in place, while removed neurons are held at exactly zero.

        Args:
            retain: The corpus to train on, its train part alone; the run's own when None.
            original: The model before unlearning, or its name, which `distill` needs; the run's own name when None.
            progress: Whether to show progress bars.
            **settings: Fields of `RepairConfig`, such as `method="full"`, `steps` or `distill`.

        Returns:
            The result with the repair in its record, measured on the test parts that the run was measured on. An error or an
            interruption before it is there leaves the model as it was.
        """
        repaired = repair_measured(
            self.model,
            self.mask,
            self.held_out,
            self.held_out.retain.corpus if retain is None else retain,
            RepairConfig().with_settings(**settings),
            tokenizer=self.tokenizer,
            original=self.record.model if original is None else original,
            progress=progress,
        )
        return replace(self, record=self.record.model_copy(update={"repairs": (*self.record.repairs, repaired)}))

    def save_pretrained(self, folder: str | Path, *, licence: str | None = None) -> Path:
        """Write an ordinary checkpoint, with the mask, the statistics, the record, a report and a model card beside it.

        Plain `AutoModelForCausalLM.from_pretrained(folder)` loads it, in a process without this package. Where the removed
        weights were kept they are written too, as `removed.safetensors`: do not give that file away with the model.

        Args:
            folder: Where to write. A folder of ours is replaced once the new one is complete; any other that is not empty is
                refused.
            licence: The licence of the original model, for the card.

        Returns:
            The folder.

        Raises:
            OutputError: The folder is not ours to replace, or cannot be written; what was there is untouched.
        """
        in_main(lambda: self._save(folder, licence))
        return Path(folder)

    def _save(self, folder: str | Path, licence: str | None) -> None:
        """Write everything into a draft that takes the folder's place once it is complete."""
        with whole_folder(folder) as draft:
            self._write(draft, licence)
            if self.removed is not None:
                self.removed.save(draft / REMOVED)

    def push_to_hub(self, repo_id: str, *, licence: str | None = None, **options: Unpack[PushOptions]) -> str:
        """Push what `save_pretrained` writes, but never the removed weights.

        Args:
            repo_id: `user/name` on the Hub; made when there is none.
            licence: The licence of the original model; the Hub is asked for it when None.
            **options: `private`, `token`, `revision`, `commit_message` and `create_pr`, as in `PushOptions`.

        Returns:
            The address of the commit.

        Raises:
            HubError: The Hub refuses, or cannot be reached; the message says what to do.
        """
        with tempfile.TemporaryDirectory() as folder:
            self._write(Path(folder), licence or self._ask_licence(options.get("token")))
            return push_folder(folder, repo_id, **options)

    def save_adapters(self, folder: str | Path, *, licence: str | None = None) -> Path:
        """Write every step as a stock peft adapter, so that the strength can be chosen after the fact.

        `PeftModel.from_pretrained(original, folder, subfolder="step-02")` loads the second. Adapters belong on the original
        model; they hide what this result's own model has removed.

        Args:
            folder: Where to write. A folder of ours is replaced; any other that is not empty is refused.
            licence: The licence of the original model, for the card.

        Returns:
            The folder.

        Raises:
            OutputError: The folder is not ours to replace, or cannot be written; what was there is untouched.
        """
        with whole_folder(folder) as draft:
            write_ladder(draft, self.record, self.ladder, Path(folder).name, licence)
        return Path(folder)

    def push_adapters_to_hub(self, repo_id: str, *, licence: str | None = None, **options: Unpack[PushOptions]) -> str:
        """Push what `save_adapters` writes.

        Args:
            repo_id: `user/name` on the Hub; made when there is none.
            licence: The licence of the original model; the Hub is asked for it when None.
            **options: As in `PushOptions`.

        Returns:
            The address of the commit.

        Raises:
            HubError: The Hub refuses, or cannot be reached; the message says what to do.
        """
        with tempfile.TemporaryDirectory() as folder:
            licence = licence or self._ask_licence(options.get("token"))
            write_ladder(Path(folder), self.record, self.ladder, repo_id, licence)
            return push_folder(folder, repo_id, **options)

    def _write(self, folder: Path, licence: str | None) -> None:
        """Write everything but the removed weights."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.mask.save(folder / FILE)
        save_ladder(folder / LADDER, self.ladder)
        self.forget.save(folder / "statistics-forget.safetensors")
        self.retain.save(folder / "statistics-retain.safetensors")
        (folder / MARKER).write_text(self.record.model_dump_json(indent=2) + "\n")
        write_report(folder, self.record, self.forget, self.retain, self.mask, licence=licence)

    def _ask_licence(self, token: str | None) -> str | None:
        """The licence of the original model, as the Hub has it."""
        return licence_of(self.record.model, self.record.revision, token)


def unlearn(
    model: PreTrainedModel,
    forget: CorpusSource,
    retain: CorpusSource = "general",
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    config: UnlearnConfig | str = "default",
    prompts: Sequence[str] | None = None,
    keep_removed: bool = False,
    progress: bool = True,
    **settings: object,
) -> UnlearnResult:
    """Take a capability out of a model, in place, and keep the rest.

    Neurons that matter more to the forget corpus than to the retain corpus are found by selective pruning
    (arXiv:2403.01267) and removed from the weights. Steps are chosen on validation parts of both corpora; what the result
    reports is measured on test parts that nothing was chosen by. The model is changed in the very last moment: an error or
    an interruption before leaves it exactly as it was, and the same call then goes on after the last finished step.

    Args:
        model: A causal language model, loaded.
        forget: The corpus whose capability goes: a name such as `code`, a file or folder, a dataset, or strings.
        retain: The corpus whose capability stays.
        tokenizer: The model's tokenizer; found by the model's name when None.
        config: Settings, or the name of a preset: `default` or `paper`.
        prompts: Texts to continue before and after, for the report; the beginnings of held-out text when None.
        keep_removed: Whether to keep the removed weights in the result, for `restore`.
        progress: Whether to show progress bars.
        **settings: Fields of `UnlearnConfig` that override `config`.

    Returns:
        The result, whose `model` is the model that was passed in.
    """
    start = time.perf_counter()
    config = resolve_config(config, **settings)
    tokenizer = find_tokenizer(model, tokenizer)
    groups = neuron_groups(model)
    check_removable(model, groups)
    if config.fill != "zero":
        check_biases(model, [group.name for group in groups if config.fractions()[group.kind]])
    pairs = _read_pairs(corpus(forget), corpus(retain), tokenizer, config)
    search = search_mask(model, groups, pairs["train"], pairs["validation"], config=config, progress=progress)

    test = pairs["test"]
    texts = list(prompts) if prompts is not None else [_beginning(blocks, tokenizer) for blocks in (test.forget, test.retain)]
    comparison = _compare(model, search, test, config, progress)
    before = continuations(model, tokenizer, texts)
    with masked(model, search.mask, fill=search.fill):
        after = continuations(model, tokenizer, texts)
    record = UnlearnRecord(
        model=str(model.name_or_path),
        revision=getattr(model.config, "_commit_hash", None),
        dtype=str(model.dtype).removeprefix("torch."),
        parameters=model.num_parameters(),
        parameters_removed=removed_parameters(model, search.mask, groups),
        still_computed=sum(int(group.shares_rows_with_kept(search.mask[group.name]).sum()) for group in groups),
        groups=counts(groups, search.mask),
        config=config,
        corpora={
            f"{use}_{part}": blocks.record()
            for part, pair in pairs.items()
            for use, blocks in (("forget", pair.forget), ("retain", pair.retain))
        },
        history=search.history,
        test=comparison,
        continuations=tuple(
            Continuation(prompt=prompt, before=one, after=other)
            for prompt, one, other in zip(texts, before, after, strict=True)
        ),
        versions=versions(),
        device=device_name(model),
        date=date.today().isoformat(),
        seconds=time.perf_counter() - start,
    )
    if keep_removed:
        removed = cut_out_(model, search.mask, groups, fill=search.fill)
    else:
        removed = None
        remove_(model, search.mask, groups, fill=search.fill)
    search.journal.close()
    return UnlearnResult(model, tokenizer, search.mask, search.masks, record, search.forget, search.retain, test, removed)


def restore(model: PreTrainedModel, result: UnlearnResult | str | Path) -> PreTrainedModel:
    """Give a model exactly the weights back that unlearning removed from it.

    Args:
        model: The model that unlearned, or its checkpoint loaded again in the same dtype; changed in place. All of it is
            checked first: a model that was trained since is refused, as its original cannot come back.
        result: The result of `unlearn(..., keep_removed=True)`, or the folder that it was saved in.

    Returns:
        The same model, bit for bit as it was before it unlearned.

    Raises:
        MaskError: The removed weights were not kept, or the model is not as the removal left it; nothing is changed then.
    """
    removed = result.removed if isinstance(result, UnlearnResult) else _read_removed(Path(result) / REMOVED)
    if removed is None:
        raise MaskError(
            "The removed weights must have been kept to be restored, but this result has none. Call "
            "`unlearn(..., keep_removed=True)` next time, and load the original model now."
        )
    put_back_(model, removed)
    return model


def _read_removed(file: Path) -> RemovedWeights | None:
    """The removed weights beside a saved result, where they were kept."""
    return RemovedWeights.load(file) if file.exists() else None


def resolve_config(config: UnlearnConfig | str, /, **settings: object) -> UnlearnConfig:
    """Find a preset by its name, and change some of its settings.

    Args:
        config: Settings, or the name of a preset.
        **settings: Fields to override.

    Returns:
        Checked settings.

    Raises:
        ConfigError: There is no such preset, or a setting is unknown or out of range.
    """
    if isinstance(config, str):
        if config not in PRESETS:
            raise ConfigError(
                f"config must be an UnlearnConfig or one of {', '.join(PRESETS)}, but `{config}` came"
                f"{nearest(config, PRESETS)}."
            )
        config = PRESETS[config]
    return config.with_settings(**settings)


def _read_pairs(forget: Corpus, retain: Corpus, tokenizer: PreTrainedTokenizerBase, config: UnlearnConfig) -> dict[Part, Pair]:
    """Read all three parts of both corpora, before anything long begins."""

    parts: tuple[Part, ...] = ("train", "validation", "test")
    pairs: dict[Part, Pair] = {part: read_pair(forget, retain, tokenizer, part, config) for part in parts}
    if pairs["train"].forget.fingerprint == pairs["train"].retain.fingerprint:
        raise CorpusError(
            f"The forget and the retain corpus must differ, but both are `{forget.name}` ({forget.source}): no neuron can "
            "matter more to one than to the other. Choose another retain corpus."
        )
    return pairs


def _compare(model: PreTrainedModel, search: Search, test: Pair, config: UnlearnConfig, progress: bool) -> Comparison:
    """Measure the original, the result, and random masks of the same size on the test parts."""

    def scores(mask: NeuronMask) -> Scores:
        with masked(model, mask, fill=search.fill):
            return judge(model, test, batch_size=config.batch_size, progress=progress)

    seeds = range(config.seed, config.seed + config.controls)
    return Comparison(
        before=judge(model, test, batch_size=config.batch_size, progress=progress),
        after=scores(search.mask),
        controls=tuple(scores(random_like(search.mask, seed)) for seed in seeds),
    )


def _beginning(blocks: TokenBlocks, tokenizer: PreTrainedTokenizerBase) -> str:
    """The first few tokens of held-out text, as a prompt."""
    return str(tokenizer.decode(blocks.input_ids[0, :PROMPT_TOKENS], skip_special_tokens=True))
