"""The referee of attacks: does each find what a model only hides, and nothing in a model that never knew?

    python benchmarks/attack_power.py                        # seeds 20 to 39
    python benchmarks/attack_power.py --seeds 6 --first 0    # others, by which the thresholds were chosen
    python benchmarks/attack_power.py --attacks noise,relearn
    python benchmarks/attack_power.py --attacks probe --tokens 8192   # small differences need more text to be sure of

For every seed there are two languages that share words (`hf_untangle.papers.planted`; in the second, the token before the last
decides which of two words follows, which no linear map of the last tokens can say), and small Llamas: one that
knows both, one that only hides the second in the way that an attack looks for (`hiding.py`), and three that have read the
first alone: the gold model, another gold model with other initial weights, and the one that is judged, trained on other text
than they. An attack has power where its verdict on the model that hides is `leaks` or `back`, and raises a false alarm where it
is so for the model that never knew. A verdict that it refuses is neither.
"""

import argparse
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from string import ascii_lowercase

import torch
from hiding import (
    deepened,
    hidden_by_code,
    nearby,
    never_the_first_choice,
    off_nf4,
    off_the_grid,
    out_of_scale,
    silent_after,
    silent_at_the_start,
    suppressed,
    under_the_threshold,
    undisturbed,
)
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.attacks.context import Scene
from hf_untangle.attacks.run import run_attacks
from hf_untangle.configs.attack import NAMES, Attack, AttackConfig
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.papers.planted.languages import GRAMMATICAL, LENGTH, VOCABULARY, Language, languages
from hf_untangle.papers.planted.planted_model import small_llama
from hf_untangle.records.attacks import AttackRecord
from hf_untangle.reporting.verdicts import verdicts

WIDTH, STEPS, BATCH, RATE = 32, 150, 16, 1e-2
"""Of the residual stream; of the training."""
TOKENS = 2048
"""Held-out tokens of a language that are measured, unless told otherwise."""
DOCUMENTS = 800
"""Texts of each language for so many."""
SHARE = 0.3
"""Weights that the pruning attack takes, under which one model hides."""
POSITIONS = 256
"""Positions of the models, so that prompts fit before a text."""
CONFIG = AttackConfig(
    seeds=1,
    samples=24,
    steps=8,
    step_tokens=512,
    points=2,
    learning_rates=(3e-3,),
    relearn_methods=("full",),
    warmups=(0.1,),
    method="full",
    learning_rate=3e-3,
    shots=(1, 2),
    block_size=LENGTH,
    batch_size=64,
    evaluation_tokens=2048,
)


@dataclass(frozen=True, eq=False)
class Toys:
    """The models and the texts of one seed."""

    knows: LlamaForCausalLM
    """Knows both languages."""
    gold: LlamaForCausalLM
    """Has read the first language alone, from the same initial weights."""
    other_gold: LlamaForCausalLM
    """The same from other initial weights."""
    never: LlamaForCausalLM
    """As `gold`, on other text."""
    tokenizer: PreTrainedTokenizerFast
    forget: TokenBlocks
    """Held-out text of the second language."""
    retain: TokenBlocks
    """The same of the first."""
    ids: tuple[Tensor, Tensor]
    """Train text of both, by which hiding is done: the second comes first."""
    neighbor: list[str]
    """Text of the second language without the words that it has alone."""
    own_words: Tensor
    """Those words."""


@dataclass(frozen=True)
class Switching:
    """A language of which the token before the last decides which of two grammars says what follows the last."""

    words: Tensor
    """The tokens of the language."""
    followers: tuple[Tensor, Tensor]
    """The token that follows each token, after an even and after an odd one."""

    def text(self, blocks: int, seed: int) -> Tensor:
        """Write blocks of it, of `LENGTH` tokens."""
        generator = torch.Generator().manual_seed(seed)
        ids = self.words[torch.randint(len(self.words), (blocks, LENGTH), generator=generator)]
        follows = torch.rand(blocks, LENGTH, generator=generator) < GRAMMATICAL
        even, odd = self.followers
        for at in range(2, LENGTH):
            last = ids[:, at - 1]
            said = torch.where(ids[:, at - 2] % 2 == 0, even[last], odd[last])
            ids[:, at] = torch.where(follows[:, at], said, ids[:, at])
        return ids


def two_languages(seed: int) -> tuple[Language, Switching]:
    """A regular language, and one with two grammars over the words of its neighbor."""
    first, second = languages(seed)
    order = second.words[torch.randperm(len(second.words), generator=torch.Generator().manual_seed(seed))]
    other = torch.arange(VOCABULARY)
    other[order] = order.roll(-1)
    return first, Switching(second.words, (second.follower, other))


HIDERS: dict[Attack, Callable[[Toys], tuple[PreTrainedModel, PreTrainedModel]]] = {
    "quantize": lambda toys: off_nf4(toys.knows, toys.ids[0]),
    "relearn": lambda toys: (toys.knows, nearby(toys.knows, toys.ids[0])),
    "few-shot": lambda toys: (toys.knows, silent_at_the_start(toys.knows, LENGTH)),
    "neighbor": lambda toys: (toys.knows, silent_after(toys.knows, toys.own_words)),
    "logit-lens": lambda toys: (deepened(toys.knows), suppressed(deepened(toys.knows), *toys.ids, layer=2)),
    "adapter": lambda toys: (toys.knows, hidden_by_code(toys.knows)),
    "int4": lambda toys: off_the_grid(toys.knows, toys.ids[0]),
    "patching": lambda toys: (toys.knows, suppressed(toys.knows, *toys.ids, layer=1)),
    "direction": lambda toys: (toys.knows, suppressed(toys.knows, *toys.ids, layer=0)),
    "weight-difference": lambda toys: (toys.knows, suppressed(toys.knows, *toys.ids, layer=1)),
    "noise": lambda toys: (toys.knows, undisturbed(toys.knows)),
    "formats": lambda toys: (toys.knows, silent_at_the_start(toys.knows, LENGTH)),
    "best-of": lambda toys: (toys.knows, never_the_first_choice(toys.knows)),
    "tuned-lens": lambda toys: (deepened(toys.knows), silent_after(deepened(toys.knows), toys.own_words)),
    "probe": lambda toys: (toys.knows, suppressed(toys.knows, *toys.ids, layer=1)),
    "prune": lambda toys: under_the_threshold(toys.knows, toys.ids[0], SHARE),
    "benign": lambda toys: (toys.knows, out_of_scale(toys.knows)),
    "held-out-facts": lambda toys: (toys.knows, nearby(toys.knows, toys.ids[0])),
}
"""For each attack the original, and a model that hides as this attack finds out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=20, help="the first seed")
    parser.add_argument("--attacks", help="some of the attacks, separated by commas")
    parser.add_argument("--rows", help="some of the columns, separated by semicolons")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="held-out tokens of a language that are measured")
    parser.add_argument("--keep", help="a folder to write every record to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    attacks: list[Attack] = [name for name in NAMES if args.attacks is None or name in args.attacks.split(",")]
    rows = args.rows.split(";") if args.rows else list(ROWS)
    start, counts = time.perf_counter(), Counter()
    for seed in range(args.first, args.first + args.seeds):
        for row, records in one_seed(toys_of(seed, args.tokens), attacks, rows).items():
            if args.keep:
                file = Path(args.keep, f"{seed}-{row.replace(' ', '-')}.json")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("\n".join(record.model_dump_json() for record in records))
            counts.update((one.attack, row, one.judgment) for record in records for one in verdicts(record))
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    print(
        f"\n{date.today()}, {platform.machine()}, {os.cpu_count()} cores, 1 thread, float32; {args.tokens} held-out tokens, ",
        end="",
    )
    print(f"seeds {args.first} to {args.first + args.seeds - 1}, {time.perf_counter() - start:.0f} s")
    print_table(attacks, counts, args.seeds)


ROWS = ("hides", "never knew", "never knew, other gold")
"""Which model is judged, and beside which gold model."""


def one_seed(toys: Toys, attacks: list[Attack], rows: list[str]) -> dict[str, list[AttackRecord]]:
    """Attack the models of one seed, beside the gold model and beside one of other initial weights."""
    found = {
        "hides": lambda: [attack_hider(toys, attack) for attack in attacks],
        "never knew": lambda: [attacked(toys, attacks, toys.never, toys.knows, toys.gold)],
        "never knew, other gold": lambda: [attacked(toys, attacks, toys.never, toys.knows, toys.other_gold)],
    }
    return {row: found[row]() for row in rows}


def attack_hider(toys: Toys, attack: Attack) -> AttackRecord:
    """Attack a model that hides as this attack finds out."""
    original, hider = HIDERS[attack](toys)
    record = attacked(toys, [attack], hider, original, toys.gold)
    top1 = {one.model: one.forget.top1 for one in record.base}
    if top1["unlearned"] > (top1["gold"] + top1["original"]) / 2:
        raise RuntimeError(f"{attack}: a model must hide at least a half of what it knows, but its top-1 are {top1}.")
    return record


def attacked(
    toys: Toys, attacks: list[Attack], unlearned: PreTrainedModel, original: PreTrainedModel, gold: PreTrainedModel
) -> AttackRecord:
    """Run some attacks on a model."""
    groups = neuron_groups(original)
    everything = NeuronMask.keep_all(groups, "toy")
    config = CONFIG.with_settings(attacks=attacks)
    scene = Scene(
        unlearned, original, gold, everything, groups, toys.tokenizer, toys.forget, toys.retain, toys.neighbor, config
    )
    record = run_attacks(scene, progress=False)
    for outcome in record.outcomes:
        if outcome.error is not None:
            raise RuntimeError(f"{outcome.attack}: {outcome.error}")
    return record


def toys_of(seed: int, tokens: int = TOKENS) -> Toys:
    """Make the models and the texts of one seed, with as many held-out tokens of each language."""
    first, second = two_languages(seed)
    tokenizer, documents = letters(), DOCUMENTS * tokens // TOKENS
    texts = [[as_text(row) for row in language.text(documents, 10**6 + seed)] for language in (second, first)]
    held_out = [token_blocks(text, tokenizer, tokens=tokens, block_size=LENGTH, part="test", excerpt=None) for text in texts]
    ids = [token_blocks(text, tokenizer, tokens=2048, block_size=LENGTH, excerpt=None).input_ids for text in texts]
    own = torch.tensor(sorted(set(second.words.tolist()) - set(first.words.tolist())))
    near = second.text(2 * documents, 2 * 10**6 + seed)
    near = near[~torch.isin(near[:, : LENGTH // 4], own).any(1), : LENGTH // 4]
    return Toys(
        knows=trained(seed, [first, second], order=seed),
        gold=trained(seed, [first], order=10**4 + seed),
        other_gold=trained(10**3 + seed, [first], order=2 * 10**4 + seed),
        never=trained(seed, [first], order=3 * 10**4 + seed),
        tokenizer=tokenizer,
        forget=held_out[0],
        retain=held_out[1],
        ids=(ids[0], ids[1]),
        neighbor=[as_text(row) for row in near],
        own_words=own,
    )


def trained(seed: int, taught: list[Language | Switching], order: int) -> LlamaForCausalLM:
    """Train a small Llama on some languages, new text in every step."""
    model = small_llama(seed, WIDTH).train()
    model.config.max_position_embeddings = POSITIONS
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for step in range(STEPS):
        ids = torch.cat([one.text(BATCH, seed=STEPS * order + step) for one in taught])
        # Long contexts too, as attacks put something before a text.
        ids = ids.view(-1, POSITIONS) if step % 2 else ids
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()
    return model.eval()


def letters() -> PreTrainedTokenizerFast:
    """A tokenizer of one letter per token, which reads all other characters as the first letter."""
    vocabulary = {letter: number for number, letter in enumerate(ascii_lowercase[:VOCABULARY])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=POSITIONS)


def as_text(ids: Tensor) -> str:
    """Write tokens as letters."""
    return "".join(ascii_lowercase[number] for number in ids.tolist())


def print_table(attacks: list[Attack], counts: Counter, seeds: int) -> None:
    """Print how often each attack found something."""
    print(f"\n| attack | {' | '.join(ROWS)} | no verdict |\n|---|{'--:|' * (len(ROWS) + 1)}")
    for attack in attacks:
        cells = [f"{sum(counts[attack, row, said] for said in ('leaks', 'back')) / seeds:.0%}" for row in ROWS]
        refused = sum(counts[attack, row, "no verdict"] for row in ROWS)
        print(f"| {attack} | {' | '.join(cells)} | {refused} of {len(ROWS) * seeds} |")


if __name__ == "__main__":
    main()
