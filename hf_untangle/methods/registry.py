"""Unlearning methods by name, each put together from parts: what is minimised, what is written, and how steps are proposed."""

from dataclasses import dataclass
from typing import Literal

from hf_untangle.arguments import checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.methods.forget_objectives import Strengths

Retain = Literal["nll", "kl", "hidden", "none"]
"""Keys of `RETAIN_OBJECTIVE`."""
Writes = Literal["all", "lora", "modules", "neurons", "matrices", "ffn", "ffn outputs", "filtered"]
"""Keys of `WRITES`."""
Proposals = Literal["descent", "task vector", "set difference", "low rank", "repselect"]
"""Keys of `PROPOSALS`: gradient steps, or an edit in closed form at growing strength."""
Optimizer = Literal["adamw", "sgd"]
"""What takes the gradient steps."""
Reference = Literal["losses", "logits"]
"""What is kept of the original: one number per row, or the largest logits of every token."""


@checked_calls
@dataclass(frozen=True)
class Method:
    """One unlearning method: L = gamma * forget + alpha * retain, or an edit without a loss."""

    summary: str
    """What it does, in one line."""
    source: str
    """Where it is from."""
    forget: str | None = None
    """A key of `FORGET_OBJECTIVE`; None for an edit in closed form."""
    retain: Retain = "nll"
    writes: Writes = "all"
    proposals: Proposals = "descent"
    strengths: Strengths = Strengths()
    gamma: int | float = 1.0
    """Weight of the forget objective."""
    alpha: int | float = 1.0
    """Weight of the retain objective."""
    dual: int | float | None = None
    """Step of alpha after every optimizer step, by how far retain is above its bound (PDU); None keeps alpha."""
    learning_rate: float = 1e-4
    """Where the search for a learning rate starts, for all weights of a small model."""
    optimizer: Optimizer = "adamw"
    __repr__ = fields_repr

    @property
    def reference(self) -> Reference | None:
        """What the forget objective needs of the original."""
        return {"npo": "losses", "dpo": "losses", "undial": "logits"}.get(self.forget or "")  # type: ignore[return-value]

    @property
    def is_edit(self) -> bool:
        """Whether nothing is trained by gradient steps of a loss."""
        return self.forget is None


METHODS: dict[str, Method] = {
    "graddiff": Method("gradient ascent on forget, descent on retain", "arXiv:2203.12817", "ascent"),
    "npo": Method("negative preference against the original", "arXiv:2404.05868", "npo", strengths=Strengths(beta=3.0)),
    "simnpo": Method(
        "negative preference without a reference", "arXiv:2410.07163", "simnpo", strengths=Strengths(beta=3.5, delta=1.0)
    ),
    "dpo": Method(
        "preference of another answer, refusals by default", "arXiv:2305.18290", "dpo", strengths=Strengths(beta=3.0)
    ),
    "rmu": Method(
        "hidden states of one layer steered to a random vector",
        "arXiv:2403.03218",
        "rmu",
        retain="hidden",
        writes="ffn outputs",
        alpha=100.0,
        learning_rate=1e-3,
    ),
    "undial": Method(
        "self-distillation with the token's logit lowered", "arXiv:2402.10052", "undial", strengths=Strengths(beta=10.0)
    ),
    "wga": Method("ascent weighted by the token's probability", "arXiv:2502.19301", "wga", strengths=Strengths(beta=1.0)),
    "satimp": Method(
        "ascent weighted by probability and improbability",
        "arXiv:2505.11953",
        "satimp",
        strengths=Strengths(beta=5.0, beta2=1.0),
        gamma=0.1,
    ),
    "pdu": Method(
        "flat logits on forget, retain as a constraint with a dual weight",
        "arXiv:2506.05314",
        "flat logits",
        alpha=100.0,
        dual=5.0,
    ),
    "maxent": Method("uniform predictions on forget", "as in arXiv:2506.06278", "uniform", alpha=1.0),
    "task_vector": Method("minus what fine-tuning on forget adds", "arXiv:2212.04089", retain="none", proposals="task vector"),
    "snip_set_difference": Method(
        "zero weights in the top of forget and not of retain, by |w dL/dw|",
        "arXiv:2402.05162",
        retain="none",
        writes="matrices",
        proposals="set difference",
    ),
    "actsvd": Method(
        "project out output directions of forget that retain has not",
        "arXiv:2402.05162",
        retain="none",
        writes="matrices",
        proposals="low rank",
    ),
    "repselect": Method(
        "the forget gradient without its largest components",
        "arXiv:2606.17168",
        retain="none",
        writes="ffn",
        proposals="repselect",
    ),
}
"""Every method but pruning, by name."""
