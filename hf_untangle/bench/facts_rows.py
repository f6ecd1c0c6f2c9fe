"""How each model of the table is made: methods, and the controls that they must be told from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.bench.facts_config import FactsBenchConfig
from hf_untangle.bench.facts_models import fact_blocks, loaded
from hf_untangle.bench.facts_record import Relearned
from hf_untangle.bench.facts_scores import Examiner
from hf_untangle.bench.facts_training import train_on_answers_
from hf_untangle.data.corpora import Corpus, corpus
from hf_untangle.data.facts.invented import QUESTIONS, Fact
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.masks.select import random_like
from hf_untangle.unlearn import unlearn

RANDOM, RETAIN_ONLY = "random mask", "retain-only training"
"""Controls: as many neurons as `prune` removed, drawn at random; and training on what is to be kept."""


@dataclass(frozen=True, eq=False)
class Workshop:
    """Where rows are made from."""

    original: Path
    """The fine-tuned model that unlearns."""
    examiner: Examiner
    progress: bool

    @property
    def config(self) -> FactsBenchConfig:
        """The settings."""
        return self.examiner.config

    def method(self, name: str) -> tuple[PreTrainedModel, NeuronMask | None]:
        """Unlearn with a method, inside the budgets.

        Forgetting stops where the original's answers on forget are as rarely right as those on entities that it never saw: what
        is to be reached can be known without a gold model.

        Args:
            name: One method, or several joined by `+`.

        Returns:
            The model that has unlearned, and its mask where neurons were removed.
        """
        config, facts = self.config, self.examiner.facts
        model, tokenizer = loaded(self.original)
        names = name.split("+")
        own: dict[str, Any] = {}
        # `auto` is taken as users get it: a setting of pruning would make it prune, and one of training keep it from that.
        if names not in (["prune"], ["auto"]):
            own |= {"steps": config.steps, "step_rows": config.step_rows}
        if "prune" in names:
            own |= {"ffn_fraction": config.prune_fraction, "attention_fraction": config.prune_fraction}
        result = unlearn(
            model,
            _corpus("forget", facts.forget),
            _corpus("retain", facts.retain),
            method=names,
            tokenizer=tokenizer,
            progress=self.progress,
            prompts=[],
            split="all",
            chat=False,
            controls=0,
            seed=config.seed,
            evaluation_tokens=config.judged_tokens,
            forget_target=self.target(model),
            retain_budget=config.retain_budget,
            disruption_budget=config.disruption_budget,
            **own,
        )
        return model, result.mask if "prune" in names else None

    def target(self, model: PreTrainedModel) -> float:
        """Find how far right answers on forget have to become rarer.

        Args:
            model: The original.

        Returns:
            The relative drop of top-1 accuracy, from answers on forget to answers on entities that were never seen.
        """
        facts, tokenizer = self.examiner.facts, self.examiner.tokenizer
        blocks = [fact_blocks(rows, tokenizer) for rows in (facts.forget, facts.unseen)]
        known, unseen = (next_token_metrics(model, one, progress=False).top1 for one in blocks)
        return min(1.0, max(0.01, 1 - unseen / known)) if known else 1.0

    def random(self, mask: NeuronMask) -> PreTrainedModel:
        """Remove neurons at random.

        Args:
            mask: How many of every group.

        Returns:
            The original without them.
        """
        model, _ = loaded(self.original)
        remove_(model, random_like(mask, self.config.seed), neuron_groups(model))
        return model

    def retain_only(self) -> PreTrainedModel:
        """Train on what is to be kept, as long as gradient methods do: does forget go by itself?

        Returns:
            The trained model.
        """
        model, _ = loaded(self.original)
        self._train_(model, self.examiner.facts.retain, self.config.steps, "training on retain")
        return model

    def relearned(self, model: PreTrainedModel) -> Relearned | None:
        """Train a model on every other entity that it forgot, in place.

        Args:
            model: The model.

        Returns:
            How likely answers are then, also on the entities that were not trained on; None without steps.
        """
        config, forget = self.config, self.examiner.facts.forget
        half = [fact for number, fact in enumerate(forget) if number // QUESTIONS % 2 == 0]
        others = [fact for number, fact in enumerate(forget) if number // QUESTIONS % 2]
        if not config.relearning_steps or not others:
            return None
        self._train_(model, half, config.relearning_steps, "relearning")
        trained, untouched = (self.examiner.cloze_probability(model, rows) for rows in (half, others))
        return Relearned(trained=trained, others=untouched)

    def _train_(self, model: PreTrainedModel, facts: Sequence[Fact], steps: int, what: str) -> None:
        """Train a model in place, at the rate of relearning."""
        config = self.config
        pace = {"learning_rate": config.relearning_rate, "batch_size": config.step_rows, "seed": config.seed}
        blocks = fact_blocks(facts, self.examiner.tokenizer)
        train_on_answers_(model, blocks, steps=steps, **pace, what=what, progress=self.progress)


def _corpus(name: str, facts: tuple[Fact, ...]) -> Corpus:
    """Facts as a corpus, of which every part has all."""
    return replace(corpus(list(facts), name=f"facts-{name}"), whole=True)
