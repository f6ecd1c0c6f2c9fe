"""TOFU's metrics of one model on the benchmark of facts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.bench.facts_config import FactsBenchConfig
from hf_untangle.bench.facts_record import FactsScores
from hf_untangle.bench.question_benchmarks import spread, told_apart
from hf_untangle.data.answers import answer_blocks
from hf_untangle.data.facts.invented import Fact, Facts
from hf_untangle.data.facts.world import world_facts
from hf_untangle.evaluation.generation import continuations
from hf_untangle.evaluation.metric_inputs import log_probabilities
from hf_untangle.evaluation.token_scores import TokenScores, token_scores
from hf_untangle.metrics.answers import answer_probability, extraction_strength, truth_ratio
from hf_untangle.metrics.texts import rouge
from hf_untangle.metrics.utility import model_utility, normalized_probability

ROWS = 16
"""Questions in a forward pass."""


@dataclass(frozen=True, eq=False)
class Examiner:
    """Asks models the same questions."""

    tokenizer: PreTrainedTokenizerBase
    facts: Facts
    config: FactsBenchConfig

    def scores(self, model: PreTrainedModel) -> FactsScores:
        """Measure everything that a row of the table says of a model by itself.

        Args:
            model: The model, which is left as it is.

        Returns:
            The scores.
        """
        forget = self.facts.forget
        answers = self.ask(model, forget, "question", "answer")
        truth = self.truth(model, forget)
        kept = self.kept(model)
        extraction = extraction_strength(_best(answers), [one.tokens.tolist() for one in answers])
        return FactsScores(
            probability=_probability(answers),
            paraphrase_probability=_probability(self.ask(model, forget, "paraphrased_question", "paraphrased_answer")),
            cloze_probability=self.cloze_probability(model, forget),
            extraction_strength=extraction["extraction_strength"],
            rouge=self.rouge(model, forget),
            truth_ratio=truth["truth_ratio"],
            ratios=tuple(truth["ratios"]),
            min_k_auc=told_apart(answers, self.ask(model, self.facts.unseen, "question", "answer")),
            kept=kept,
            utility=model_utility(kept)["model_utility"],
        )

    def cloze_probability(self, model: PreTrainedModel, facts: Sequence[Fact]) -> float:
        """Measure how likely values are at the end of sentences that no training had.

        Args:
            model: The model.
            facts: What is asked.

        Returns:
            The mean probability, normalized by length.
        """
        return _probability(self.ask(model, facts, "cloze", "value"))

    def kept(self, model: PreTrainedModel) -> dict[str, float]:
        """Measure the nine numbers of model utility.

        Args:
            model: The model.

        Returns:
            The numbers by name; on the world, the probability of the right answer among all that are offered.
        """
        sets = {"retain": self.facts.retain, "neighbors": self.facts.neighbors, "world": world_facts()}
        found: dict[str, float] = {}
        for name, rows in sets.items():
            some = spread(rows, self.config.questions)
            truth = self.truth(model, some)
            if name == "world":
                found[f"{name} probability"] = truth["normalized_probability"]
            else:
                found[f"{name} probability"] = _probability(self.ask(model, some, "question", "answer"))
            found[f"{name} ROUGE"] = self.rouge(model, some)
            found[f"{name} truth"] = truth["true_by_ratio"]
        return found

    def truth(self, model: PreTrainedModel, facts: Sequence[Fact]) -> dict[str, Any]:
        """Compare right answers with wrong ones of the same form.

        Args:
            model: The model.
            facts: What is asked.

        Returns:
            What `truth_ratio` and `normalized_probability` give.
        """
        right = log_probabilities(self.ask(model, facts, "question", "paraphrased_answer"))
        prompts = [fact["question"] for fact in facts for _ in fact["perturbed_answer"]]
        flat = iter(log_probabilities(self.score(model, prompts, [one for fact in facts for one in fact["perturbed_answer"]])))
        wrong = [[next(flat) for _ in fact["perturbed_answer"]] for fact in facts]
        return truth_ratio(right, wrong) | normalized_probability(right, wrong)

    def rouge(self, model: PreTrainedModel, facts: Sequence[Fact]) -> float:
        """Let a model answer by itself, as many tokens as the answer has.

        Args:
            model: The model.
            facts: What is asked; some of it is.

        Returns:
            Mean ROUGE-L recall.
        """
        some = spread(facts, self.config.prompts)
        written = []
        for fact in some:
            length = len(self.tokenizer(fact["answer"], add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]
            written += continuations(model, self.tokenizer, [fact["question"]], max_new_tokens=length + 1)
        return rouge(written, [fact["answer"] for fact in some], use_stemmer=True)["rougeL_recall"]

    def ask(self, model: PreTrainedModel, facts: Sequence[Fact], prompt: str, answer: str) -> list[TokenScores]:
        """Score one answer to every fact.

        Args:
            model: The model.
            facts: What is asked.
            prompt: The column of the prompts.
            answer: The column of the answers.

        Returns:
            The scores, fact by fact.
        """
        return self.score(model, [fact[prompt] for fact in facts], [fact[answer] for fact in facts])

    def score(self, model: PreTrainedModel, prompts: Sequence[str], answers: Sequence[str]) -> list[TokenScores]:
        """Score answers, those of similar length in one pass.

        Args:
            model: The model.
            prompts: What is given.
            answers: What is predicted.

        Returns:
            The scores, in order.
        """
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]) + len(answers[row]))
        blocks = answer_blocks([prompts[row] for row in order], [answers[row] for row in order], self.tokenizer)
        scores = token_scores(model, blocks, batch_size=ROWS, progress=False)
        return [score for _, score in sorted(zip(order, scores, strict=True), key=lambda pair: pair[0])]


def _probability(scores: Sequence[TokenScores]) -> float:
    """The mean probability of several answers, normalized by length."""
    return answer_probability(log_probabilities(scores))["answer_probability"]


def _best(scores: Sequence[TokenScores]) -> list[list[int]]:
    """The most likely token at every position of several answers."""
    return [score.best[:, 0].tolist() for score in scores]
