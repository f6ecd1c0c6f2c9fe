"""Unlearning by the Trainer of transformers, in the manner of trl: accumulation, mixed precision, several processes, resume.

`unlearn(method=...)` searches for a learning rate and stops at a budget; here the arguments say all of that, and callbacks such
as `callbacks.UnlearnEvaluationCallback` judge.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.quantized import has_codes
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.arguments import checked_calls
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import CorpusSource, corpus
from hf_untangle.data.documents import IGNORED
from hf_untangle.data.tokenizers import find_tokenizer
from hf_untangle.errors import ConfigError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.methods.choose import method_names
from hf_untangle.methods.combined_loss import Ask, Objective, Use, prepare
from hf_untangle.methods.descent import Dual
from hf_untangle.methods.localized import check_targets, localize_
from hf_untangle.methods.registry import METHODS, Method
from hf_untangle.methods.settings import MethodConfig


@checked_calls
@dataclass
class UnlearnArguments(TrainingArguments):
    """Arguments of an unlearning run by the Trainer of transformers; what is None is the method's own."""

    method: str = field(
        default="npo", metadata={"help": "A method that takes gradient steps, see `hf-untangle unlearn --list-methods`."}
    )
    retain_objective: str | None = field(default=None, metadata={"help": "nll, kl, hidden or none."})
    beta: float | None = field(default=None, metadata={"help": "Of npo, simnpo, dpo, undial, wga and satimp."})
    delta: float | None = field(default=None, metadata={"help": "Margin of simnpo, in nats per token."})
    sequence_sum: bool = field(default=False, metadata={"help": "Sum log-probabilities over a row (npo, dpo)."})
    gamma: float | None = field(default=None, metadata={"help": "Weight of the forget objective."})
    alpha: float | None = field(default=None, metadata={"help": "Weight of the retain objective."})
    layer: int | None = field(default=None, metadata={"help": "Layer whose hidden states are read."})
    alternatives: list[str] | None = field(default=None, metadata={"help": "Answers that dpo prefers; refusals when left out."})
    max_length: int = field(default=1024, metadata={"help": "Most tokens of a row; longer rows are cut."})
    max_rows: int | None = field(default=None, metadata={"help": "Most rows of each corpus; all of them when left out."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Batches hold row numbers, which the model's signature does not name."}
    )


USES: tuple[Use, ...] = ("forget", "retain")


@checked_calls
class UnlearnTrainer(Trainer):
    """Trains a model, or an adapter on it, by a method of `METHODS`.

        trainer = UnlearnTrainer(model, UnlearnArguments("out", method="npo"), train_dataset={"forget": f, "retain": r})
        trainer.train()

    What the original predicts is asked for once, when the trainer is made: no second model is held. Under `peft_config` the
    original is the model with its adapter switched off.
    """

    def __init__(
        self,
        model: nn.Module,
        args: UnlearnArguments,
        *,
        train_dataset: Mapping[str, CorpusSource],
        processing_class: PreTrainedTokenizerBase | None = None,
        peft_config: Any = None,
        neurons: NeuronMask | None = None,
        **kwargs: Any,
    ) -> None:
        """Read the rows, and ask the original for what the method needs of it.

        Args:
            model: A causal language model, with an adapter of peft or without.
            args: How to train.
            train_dataset: `{"forget": ..., "retain": ...}`: whatever `hf_untangle.corpus` opens, such as data sets of chats,
                of prompts with completions, or of tokenized rows. All rows are read, `args.max_rows` at the most.
            processing_class: The tokenizer; found by the model's name when None.
            peft_config: Puts an adapter on the model, such as `LoraConfig()`.
            neurons: A mask: only what reads and computes the neurons that it removes is written to.
            **kwargs: As for `transformers.Trainer`: `eval_dataset`, `compute_metrics`, `callbacks` and so on. Evaluation data
                may be given by name, as rows of token ids with labels.

        Raises:
            ConfigError: The method takes no gradient steps, has no retain rows, or cannot write to the model.
        """
        method = _gradient_method(args)
        below = model_below(model)
        _check(method, train_dataset, model, peft_config)
        tokenizer = find_tokenizer(below, processing_class)
        rows = {use: _rows(source, tokenizer, args) for use, source in train_dataset.items() if use in USES}
        if neurons is not None:
            check_targets(below, neurons, peft_config, args.weight_decay)
        self.objective = _objective(model, method, rows, tokenizer, args)
        if peft_config is not None:
            from peft import get_peft_model

            model = cast(nn.Module, get_peft_model(cast(PreTrainedModel, model), peft_config))
        elif neurons is not None:
            localize_(below, neurons)
        self.dual = Dual(self.objective)
        self._seen: dict[str, list[float]] = {use: [] for use in USES}
        self._mean_sizes = torch.ones(len(USES))
        self._retain_of_step = 0.0
        kwargs.setdefault("data_collator", _Collator(cast(int, tokenizer.pad_token_id or 0)))
        super().__init__(model, args, train_dataset=_Pairs(self.objective), processing_class=tokenizer, **kwargs)
        # The loss is a mean over a batch, whatever the model's own loss would be divided by.
        self.model_accepts_loss_kwargs = False

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> Any:
        """Take the batches of a step, and count what they hold in all processes.

        The Trainer averages passes alike, but one of long rows is to bring more to a mean over tokens.

        Args:
            epoch_iterator: Gives batches.
            num_batches: How many make up a step.
            device: Where the model is.

        Returns:
            The batches, and what the Trainer counts of them.
        """
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        numbered = [batch for batch in batches if "forget" in batch]
        if numbered:
            sizes = torch.stack([self._sizes(batch) for batch in numbered]).to(device)
            self._mean_sizes = cast(Tensor, self.accelerator.gather(sizes)).mean(0).cpu()
        return batches, items

    def _sizes(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What a batch counts for in the means of both objectives."""
        return torch.stack([self.objective.sizes(use, inputs[use].cpu()).sum() for use in USES])

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of the method on numbered rows; of rows with labels the model's own.

        Args:
            model: The model, as the Trainer wraps it.
            inputs: A batch of the collator.
            return_outputs: Whether to return what the model gave too, for rows with labels.
            num_items_in_batch: Passed on for rows with labels.

        Returns:
            The loss.
        """
        if "forget" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        objective = self.objective
        shares = self._sizes(inputs) / self._mean_sizes if model.training else torch.ones(len(USES))
        forget = objective.forget_loss(model, objective.forget.take(inputs["forget"].cpu())) * float(shares[0])
        retain = torch.zeros_like(forget)
        if objective.method.retain != "none":
            retain = objective.retain_loss(model, objective.retain.take(inputs["retain"].cpu())) * float(shares[1])
        for use, value in zip(USES, (forget, retain), strict=True):
            self._seen[use].append(float(value.detach()))
        loss = objective.method.gamma * forget + self.dual.alpha * retain
        if model.training:
            self._retain_of_step += float(retain.detach()) / self.current_gradient_accumulation_steps
            if self.accelerator.sync_gradients:
                self.dual.update(self._retain_of_step)
                self._retain_of_step = 0.0
        return (loss, {}) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log both objectives beside the loss.

        Args:
            logs: What is logged.
            *args: Passed on.
            **kwargs: Passed on.
        """
        if "loss" in logs:
            means = {f"{use}_loss": sum(seen) / len(seen) for use, seen in self._seen.items() if seen}
            logs = logs | means | ({"retain_weight": self.dual.alpha} if self.objective.method.dual else {})
            self._seen = {use: [] for use in USES}
        super().log(logs, *args, **kwargs)


class _Pairs(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Numbers of rows: one of forget, and with it one of retain, each of which comes as often."""

    def __init__(self, objective: Objective) -> None:
        self._forget, self._retain = len(objective.forget), len(objective.retain)

    def __len__(self) -> int:
        return max(self._forget, self._retain)

    def __getitem__(self, row: int) -> dict[str, int]:
        return {"forget": row % self._forget, "retain": row % self._retain}


class _Collator:
    """Stacks numbers of rows, and pads rows of token ids."""

    def __init__(self, padding: int) -> None:
        self._padding = padding

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        if "forget" in rows[0]:
            return {use: torch.tensor([row[use] for row in rows]) for use in USES}
        ids = [torch.as_tensor(row["input_ids"]) for row in rows]
        labels = [torch.as_tensor(row.get("labels", row["input_ids"])) for row in rows]
        lengths = torch.tensor([len(one) for one in ids])
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self._padding),
            "attention_mask": (torch.arange(int(lengths.max())) < lengths[:, None]).long(),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        }


def _gradient_method(args: UnlearnArguments) -> Method:
    """The method, with the numbers of the arguments."""
    name, *more = method_names(args.method)
    if more or name not in METHODS or METHODS[name].is_edit:
        raise ConfigError(
            f"UnlearnTrainer needs one method that takes gradient steps, got `{args.method}`. Call "
            "`unlearn(model, method=...)` for it."
        )
    fields = ("retain_objective", "beta", "delta", "sequence_sum", "gamma", "alpha")
    return MethodConfig.resolve(**{name: getattr(args, name) for name in fields}).apply_to(name)


def _check(method: Method, data: Mapping[str, CorpusSource], model: nn.Module, peft_config: Any) -> None:
    """Refuse what cannot be trained."""
    missing = [use for use in USES if use not in data and (use == "forget" or method.retain != "none")]
    if missing:
        raise ConfigError(
            f"`train_dataset` must have rows to {missing[0]}, got {sorted(data)}. Pass both of `forget` and `retain`, or "
            "retain_objective=`none`."
        )
    if peft_config is None and not hasattr(model, "peft_config") and any(map(has_codes, model.parameters())):
        raise ConfigError(
            "A quantized model can be trained through an adapter alone, got none. Pass `peft_config=LoraConfig()`."
        )


def _rows(source: CorpusSource, tokenizer: PreTrainedTokenizerBase, args: UnlearnArguments) -> TokenBlocks:
    """All rows of a source, each a block of its own."""
    many = args.max_rows or 2**20
    blocks = token_blocks(
        corpus(source, split="all"), tokenizer, tokens=many * args.max_length, block_size=args.max_length, packed=False
    )
    return blocks if args.max_rows is None else blocks.first(args.max_rows)


def _objective(
    model: nn.Module,
    method: Method,
    rows: dict[str, TokenBlocks],
    tokenizer: PreTrainedTokenizerBase,
    args: UnlearnArguments,
) -> Objective:
    """Ask the original for what the method needs of it: the model, with its adapter switched off where it has one."""
    below = model_below(model)
    groups = neuron_groups(below) if method.forget == "rmu" or method.retain == "hidden" else ()
    layer = args.layer
    if layer is None:
        layer = max((group.layer for group in groups), default=0) // 3
    alternatives = None if args.alternatives is None else tuple(args.alternatives)
    ask = Ask(groups, tokenizer, layer, alternatives, args.per_device_train_batch_size, args.seed)
    adapted: Any = model
    switched_off = adapted.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()
    below.to(cast(Any, args.device))
    with switched_off:
        return prepare(model, method, rows["forget"], rows.get("retain", rows["forget"]), ask)
