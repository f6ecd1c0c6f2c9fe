"""Every attack by its name."""

from collections.abc import Callable, Iterator

from hf_untangle.attacks.adapter import adapter
from hf_untangle.attacks.compressing import int4, prune
from hf_untangle.attacks.context import Scene
from hf_untangle.attacks.elicitation import best_of, formats
from hf_untangle.attacks.fine_tuning import benign
from hf_untangle.attacks.noise import noise
from hf_untangle.attacks.prompting import few_shot, logit_lens
from hf_untangle.attacks.prompting import neighbor as near_text
from hf_untangle.attacks.quantization import quantize
from hf_untangle.attacks.relearning import held_out_facts, relearn
from hf_untangle.attacks.residual_stream import direction, patching, probe, tuned_lens
from hf_untangle.attacks.weight_difference import weight_difference
from hf_untangle.configs.attack import Attack
from hf_untangle.records.attacks import Reading

ATTACKS: dict[Attack, Callable[[Scene], Iterator[Reading | str]]] = {
    "quantize": quantize,
    "relearn": relearn,
    "few-shot": few_shot,
    "neighbor": near_text,
    "logit-lens": logit_lens,
    "adapter": adapter,
    "int4": int4,
    "patching": patching,
    "direction": direction,
    "weight-difference": weight_difference,
    "noise": noise,
    "formats": formats,
    "best-of": best_of,
    "tuned-lens": tuned_lens,
    "probe": probe,
    "prune": prune,
    "benign": benign,
    "held-out-facts": held_out_facts,
}
"""Each attack yields what it measures, and sentences on what it finds, as it goes: so nothing is lost where it ends early."""
