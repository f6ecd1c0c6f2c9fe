"""What a method costs before it starts: forward passes per token, and what has to be in memory."""

from dataclasses import dataclass

from hf_untangle.architecture.forward import BACKWARD
from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.methods.registry import METHODS, Method

HIDDEN_SHARE = 1 / 3
"""How far up the default layer is whose hidden states are read: passes end there."""


@checked_calls
@dataclass(frozen=True)
class Cost:
    """What one step of a method costs, and what it holds besides the model's own weights."""

    per_step: float
    """Forward passes over the forget rows of a step, retain rows and backward passes included."""
    once: float
    """Forward passes over the rows, once before the first step: references, statistics of an edit, fine-tuning."""
    trained: float
    """Tensors as large as the written weights: gradients, moments, scores."""
    reference: str
    """What is kept of the original."""


@checked_arguments
def cost_of(method: Method) -> Cost:
    """Count passes and tensors of a method, from what it is made of.

    Args:
        method: The method.

    Returns:
        The cost; the search for a learning rate repeats steps, not what is done once.
    """
    if method.is_edit:
        return EDIT_COST[method.proposals]
    hidden = method.forget == "rmu"
    forget = (1 + BACKWARD) * (HIDDEN_SHARE if hidden else 1) * (2 if method.forget == "dpo" else 1)
    retain = {"none": 0.0, "hidden": HIDDEN_SHARE}.get(method.retain, 1.0) * (1 + BACKWARD)
    references = {"losses": "a number per row", "logits": "the largest logits", None: "nothing"}[method.reference]
    if method.retain == "kl":
        references = "the largest logits"
    if method.retain == "hidden":
        references = "hidden states of one layer"
    once = (2.0 if method.forget == "dpo" else 1.0) * (method.reference is not None)
    once += {"kl": 1.0, "hidden": HIDDEN_SHARE}.get(method.retain, 0.0)
    return Cost(forget + retain, once, 3.0 if method.optimizer == "adamw" else 1.0, references)


EDIT_COST = {
    "task vector": Cost(0.0, 3.0, 3.0, "nothing"),
    "set difference": Cost(0.0, 6.0, 3.0, "nothing"),
    "low rank": Cost(0.0, 2.0, 0.0, "nothing"),
    "repselect": Cost(0.0, 6.0, 2.0, "nothing"),
}
"""Costs of edits in closed form, which do not train at a proposal."""

WRITTEN = {
    "all": "all weights",
    "ffn": "FFN weights",
    "ffn outputs": "three FFN outputs",
    "matrices": "all matrices",
}
"""What is written, in words."""


def method_rows() -> list[tuple[str, str, str, str, str, str]]:
    """List all methods with what they cost.

    Returns:
        For each: its name, what it does, its source, forward passes per step, forward passes once, and memory besides the
        model.
    """
    rows = [
        ("auto", "wga with KL on retain where weights can be trained, or prune", "methods.md", "6", "1", "-"),
        ("prune", "neurons that matter more to forget than to retain", "arXiv:2403.01267", "-", "see --dry-run", "-"),
    ]
    for name, method in METHODS.items():
        cost = cost_of(method)
        memory = f"{cost.trained:g} x {WRITTEN[method.writes]}; {cost.reference} of the original"
        rows.append((name, method.summary, method.source, f"{cost.per_step:.3g}", f"{cost.once:.3g}", memory))
    return rows
