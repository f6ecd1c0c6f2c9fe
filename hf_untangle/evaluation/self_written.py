"""Text that a model writes itself: what it knows, sampled from it, as a corpus to retain.

A retain corpus shows a part of what a model can do, and only that part is kept. Samples show the model's own distribution
without any data: from the beginning of a text, from a first word that is drawn at random (as in LLM-QAT, Liu et al. 2023,
arXiv:2305.17888), and, of a model with a chat template, from the beginning of a user's turn, whose question it then answers
(Magpie, Xu et al. 2024, arXiv:2406.08464). What looks more like the forget corpus than like the rest is left out.
"""

import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import accumulate, chain, islice

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.inference_mode import evaluation_mode, without_gradients
from hf_untangle.architecture.offload import input_device
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.data.catalogue import OWN
from hf_untangle.data.corpora import Corpus
from hf_untangle.data.documents import Part
from hf_untangle.data.own_text_file import own_corpus
from hf_untangle.data.packing import bos_prefix
from hf_untangle.data.splits import FIFTHS, PARTS
from hf_untangle.data.understood import announce
from hf_untangle.errors import ConfigError, CorpusError
from hf_untangle.evaluation.generation import ends_of, generating_by
from hf_untangle.evaluation.self_written_cache import cached_texts
from hf_untangle.progress import phase
from hf_untangle.randomness import random_state_kept

logger = logging.getLogger("hf_untangle")

LENGTH = 200
"""Tokens of a text at the most."""
USUAL_LENGTH = 125
"""Tokens of a text on average, as some end early and some are left out."""
QUESTION = 64
"""Tokens of a question at the most."""
BATCH = 96
"""Texts that are written side by side: the next token of all costs little more than that of one."""
COMPARED = 400
"""Documents of either corpus that texts are compared with."""
RUN = 40
"""Tokens that are compared together."""
ODDS = 0.6
"""How much likelier each of them is in the forget corpus, in nats, where a text is left out: a ratio of perplexities of 1.8."""
PRIOR = 2000
"""Tokens of an even mixture of both sides that are added to either, as a small one says little (Zhai and Lafferty 2001)."""


@checked_arguments
def own_text(
    model: PreTrainedModel | ModelName,
    tokenizer: PreTrainedTokenizerBase,
    *,
    texts: int = 200,
    shares: dict[Part, float] | None = None,
    unlike: Corpus | None = None,
    beside: Sequence[Corpus] = (),
    temperature: float = 1.0,
    seed: int = 0,
) -> Corpus:
    """Let a model write a corpus itself.

    The same weights and settings give the same corpus, which is kept in the cache folder.

    Args:
        model: A causal language model, which is left as it was. A name or path is loaded.
        tokenizer: Its tokenizer.
        texts: How many texts to write, of up to 200 tokens; those that are blank or too like `unlike` are left out.
        shares: What share of them each part gets; 60% to train on and 20% for each of the others when None.
        unlike: A corpus that is to be forgotten: a text is left out if a run of 40 of its tokens has a perplexity by the
            frequencies of tokens in it that is lower, by a factor of 1.8, than by those in `beside` and all other texts.
        beside: What else is retained.
        temperature: Of the samples; 1 is the model's own distribution.
        seed: Of the samples.

    Returns:
        The corpus, named `self`.

    Raises:
        ConfigError: `texts` or `temperature` is not positive.
        CorpusError: The model cannot write, or nothing is left of what it wrote.
    """
    model = opened(model)
    if texts < 1 or not temperature > 0:
        raise ConfigError(f"texts and temperature must be above 0, got texts={texts} and temperature={temperature}.")
    if not model.can_generate():
        raise CorpusError(f"Only a causal language model can write its retain corpus, and {type(model).__name__} is none.")
    settings = {"texts": texts, "temperature": temperature, "seed": seed, "template": str(tokenizer.chat_template)}
    settings["drawn"] = "by inversion"
    settings |= {"bos": True} if bos_prefix(tokenizer) else {}
    written = cached_texts(model, settings, partial(_write, model, tokenizer, texts, temperature, seed))
    kept = [text for text in written if text.strip()]
    if unlike is not None:
        gone, *others = (islice(one.documents("train"), COMPARED) for one in (unlike, *beside))
        kept = _unlike(kept, gone, chain(*others), tokenizer)
        logger.info("Of %d texts that the model wrote, %d are unlike `%s`.", len(written), len(kept), unlike.name)
    if len(kept) < len(PARTS):
        raise CorpusError(
            f"A corpus needs a text for each of its {len(PARTS)} parts, but of {texts} that the model wrote {len(kept)} are "
            "left. Write more, or pass a retain corpus."
        )
    return _as_corpus(kept, shares or {part: fifths / 5 for part, fifths in FIFTHS.items()}, texts, temperature, seed)


def with_own_text(
    retain: Corpus,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    tokens: dict[Part, int],
    unlike: Corpus | None,
    seed: int,
    progress: bool = True,
) -> Corpus:
    """Write what a retain corpus leaves to the model: all of `self`, or a member of several.

    Args:
        retain: The corpus.
        model: The model as it is before anything is taken out of it.
        tokenizer: Its tokenizer.
        tokens: How many tokens will be read of each part of the whole corpus.
        unlike: What is to be forgotten, if anything.
        seed: Of the samples.
        progress: Whether to say that text is being written.

    Returns:
        The same corpus, with texts instead of `self`.
    """
    members = retain.members or (retain,)
    if not any(one.origin == OWN and not one.own for one in members):
        return retain
    needed = sum(tokens.values())
    length = min(USUAL_LENGTH, _positions(model) // 2)
    texts = max(len(PARTS), math.ceil(needed / len(members) / length))
    phase("the model writes text to retain")
    announce(f"self: the model writes {texts} texts to retain", progress=progress)
    shares: dict[Part, float] = {part: count / needed for part, count in tokens.items()}
    beside = [one for one in members if one.origin != OWN]
    own = own_text(model, tokenizer, texts=texts, shares=shares, unlike=unlike, beside=beside, seed=seed)
    if not retain.members:
        return own
    written = tuple(replace(own, name=one.name) if one.origin == OWN else one for one in members)
    return replace(retain, members=written, source=" + ".join(one.source for one in written))


Sample = Callable[[Sequence[list[int]], int], list[str]]
"""Continues token ids at random, up to a number of new tokens."""


def _write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: int, temperature: float, seed: int) -> list[str]:
    """Sample texts, in equal numbers from every kind of start that the tokenizer has, and mix them."""
    turn = _beginning_of_a_turn(tokenizer)
    each = -(-texts // (2 if turn is None else 3))
    with random_state_kept(), _sampling(model, tokenizer, temperature) as sample:
        torch.manual_seed(seed)
        words = _words(tokenizer, each)
        first = [""] * each + [str(tokenizer.decode([word])) for word in words]
        # Models whose texts all begin with BOS write the same word again and again without it.
        starts = [_beginning(tokenizer)] * each + [[*bos_prefix(tokenizer), word] for word in words]
        questions = [] if turn is None else [one.strip() for one in sample([turn] * each, QUESTION)]
        asked = [[{"role": "user", "content": question}] for question in questions if question]
        answering = [_tokens(_chat(tokenizer, turns, to_answer=True), tokenizer) for turns in asked]
        # All that is long side by side.
        written = sample([*starts, *answering], LENGTH)
    found = [word + text for word, text in zip(first, written, strict=False)]
    for turns, answer in zip(asked, written[len(starts) :], strict=True):
        found.append(_chat(tokenizer, [*turns, {"role": "assistant", "content": answer.strip()}], to_answer=False))
    random.Random(seed).shuffle(found)
    return found[:texts]


def _chat(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], *, to_answer: bool) -> str:
    """A chat as its template writes it."""
    return str(tokenizer.apply_chat_template(turns, add_generation_prompt=to_answer, tokenize=False))


@contextmanager
def _sampling(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, temperature: float) -> Iterator[Sample]:
    """Let a model continue token ids at random inside the `with` block."""
    ends, device = ends_of(model, tokenizer), input_device(model)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0] if ends else 0
    likeliest = GenerationConfig(do_sample=False, eos_token_id=ends or None, pad_token_id=pad)
    draw = LogitsProcessorList([_Draw(temperature)])
    positions = _positions(model)

    def batch(prompts: Sequence[list[int]], length: int) -> list[str]:
        width = max(map(len, prompts))
        if width >= positions:
            return [""] * len(prompts)
        ids = torch.tensor([[pad] * (width - len(one)) + one for one in prompts], device=device)
        given = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts], device=device)
        how = {"logits_processor": draw, "max_new_tokens": min(length, positions - width)}
        output = model.generate(input_ids=ids, attention_mask=given, **how)  # type: ignore[operator]
        return [str(tokenizer.decode(row, skip_special_tokens=True)) for row in output[:, width:]]

    def sample(prompts: Sequence[list[int]], length: int) -> list[str]:
        batches = (prompts[first : first + BATCH] for first in range(0, len(prompts), BATCH))
        return [text for one in batches for text in batch(one, length)]

    with evaluation_mode(model), generating_by(model, likeliest), without_gradients(model):
        yield sample


class _Draw(LogitsProcessor):
    """Draws a token of every text, and leaves no other: by inversion, which is several times faster than `multinomial`."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG002
        """Minus infinity for all tokens but those that are drawn."""
        upto = (scores.float() / self.temperature).softmax(-1).cumsum(-1)
        drawn = torch.rand(len(upto), 1, device=upto.device) * upto[:, -1:]
        # The first whose sum is above what was drawn: never one of probability 0.
        token = torch.searchsorted(upto, drawn, right=True).clamp(max=upto.shape[-1] - 1)
        return torch.full_like(upto, -math.inf).scatter_(1, token, 0.0)


def _positions(model: PreTrainedModel) -> int:
    """How long a text may be; as long as texts ever are here where the model does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2 * LENGTH


def _beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What begins a text: a token of its own, or the one that ends the text before."""
    return [one for one in (tokenizer.bos_token_id, tokenizer.eos_token_id, 0) if isinstance(one, int)][:1]


def _words(tokenizer: PreTrainedTokenizerBase, count: int) -> list[int]:
    """Draw words at random: those that begin a sentence, where the vocabulary has such."""
    special = set(tokenizer.all_special_ids)
    others = [number for number in range(len(tokenizer)) if number not in special]
    written = ((number, str(tokenizer.decode([number])).strip()) for number in others)
    pool = [number for number, word in written if word.isalpha() and word.istitle()] or others
    return [pool[number] for number in torch.randint(len(pool), (count,)).tolist()]


def _beginning_of_a_turn(tokenizer: PreTrainedTokenizerBase) -> list[int] | None:
    """What a chat template writes before the first words of a user; None where there is no template."""
    if tokenizer.chat_template is None:
        return None
    mark = "What the user says"
    try:
        prompt = str(tokenizer.apply_chat_template([{"role": "user", "content": mark}], tokenize=False))
    except Exception:  # Templates raise what they like, of Jinja or their own.
        return None
    before, found, _ = prompt.partition(mark)
    return tokenizer.encode(before, add_special_tokens=False) if found and before else None


def _unlike(texts: list[str], forget: Iterable[str], retain: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The texts of which no run of tokens is clearly likelier by the frequencies of tokens in forget than by those elsewhere.

    Of a text that is prose but for a few lines, the whole would speak for prose. Elsewhere is retain together with all other
    texts that were written, as a small retain corpus has few of the rarer words.
    """
    encoded = [_tokens(text, tokenizer) for text in texts]
    gone, kept = (Counter(token for text in some for token in _tokens(text, tokenizer)) for some in (forget, retain))
    kept.update(token for ids in encoded for token in ids)
    gone_total, kept_total = gone.total(), kept.total()
    # Of a forget corpus of a few lines these lines are all that is to go, so that it is smoothed by less.
    prior = min(PRIOR, gone_total / 100)

    def odds(token: int, own: int, length: int) -> float:
        # The text's own tokens are taken out of the count, or a rare one would speak for itself.
        here, elsewhere = gone[token], kept[token] - own
        if not here and not elsewhere:
            return 0.0
        others = kept_total - length
        mixed = (here / max(1, gone_total) + elsewhere / max(1, others)) / 2
        likely = (here + prior * mixed) / (gone_total + prior), (elsewhere + PRIOR * mixed) / (others + PRIOR)
        return math.log(likely[0] / likely[1])

    def is_like_forget(ids: list[int]) -> bool:
        of_token = {token: odds(token, own, len(ids)) for token, own in Counter(ids).items()}
        sums, run = [0.0, *accumulate(of_token[token] for token in ids)], min(RUN, len(ids))
        return any(end - begin > ODDS * run for begin, end in zip(sums, sums[run:], strict=False))

    return [text for text, ids in zip(texts, encoded, strict=True) if not is_like_forget(ids)]


def _tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens of a text, without special ones."""
    return tokenizer.encode(text, add_special_tokens=False)


def _as_corpus(texts: list[str], shares: dict[Part, float], wanted: int, temperature: float, seed: int) -> Corpus:
    """Deal texts out to the parts of a corpus."""
    dealt: dict[Part, list[str]] = {part: [] for part in shares}
    for number, text in enumerate(texts):
        # Next is the part that lacks most of its share, one without a text before all others.
        part = max(shares, key=lambda one: (not dealt[one], shares[one] * (number + 1) - len(dealt[one])))
        dealt[part].append(text)
    source = f"text that the model wrote itself ({wanted} samples at temperature {temperature:g}, seed {seed})"
    return own_corpus(dealt, source)
