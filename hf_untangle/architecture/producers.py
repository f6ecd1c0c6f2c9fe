"""Which rows compute which neuron, read from what arrives at the neurons, and then put to the test."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hf_untangle.architecture.dataflow import NEGLIGIBLE, NEUTRAL, Ancestor, Lineage, gradients_of
from hf_untangle.architecture.moe import activated, producer_of
from hf_untangle.architecture.neurons import NeuronGroup, Producer
from hf_untangle.architecture.projections import matrix_of
from hf_untangle.architecture.trace import Call, Writer

BASE = 16
"""Digits are below this number, small enough to survive the rounding of bfloat16."""
DIGITS = 5
"""Enough for projections of 16 ** 5, a million, rows."""
READABLE = 0.2
"""A digit that arrives further than this from a whole number is no digit."""


def digits_of(numbers: Int[Tensor, " n"]) -> Int[Tensor, "digit n"]:
    """Spell numbers out in base BASE, lowest digit first.

    Args:
        numbers: Non-negative numbers below BASE ** DIGITS.

    Returns:
        Digits from 0 to BASE - 1.
    """
    return torch.stack([numbers // BASE**digit % BASE for digit in range(DIGITS)])


def number_of(digits: Float[Tensor, "digit n"]) -> Int[Tensor, " n"] | None:
    """Put numbers together from digits as they arrived.

    Args:
        digits: Approximate digits.

    Returns:
        The numbers; None when what arrived are no digits.
    """
    if not bool(((digits - digits.round()).abs() < READABLE).all() and (digits > -READABLE).all() and (digits < BASE).all()):
        return None
    return (digits.round().long() * BASE ** torch.arange(DIGITS)[:, None]).sum(0)


SEQUENCES = 1 + DIGITS
"""Sequences of the pass in which values are codes: a neutral one, and one a digit."""
CLOSE = 1e-2
"""Activations that differ by less than this share are the same, in the rounding of bfloat16."""


def write_neutral(_: str, output: Tensor) -> Tensor:
    """Have every projection write NEUTRAL: a `Writer`."""
    return torch.full_like(output, NEUTRAL, memory_format=torch.contiguous_format)


def value_codes(projections: Iterable[Lineage], turn: int) -> Writer:
    """Have the value rows of attention write the digits of their number, one digit a sequence, and all others NEUTRAL.

    Attention averages values that are the same at all positions, so the code of a value row arrives unchanged, or scaled by
    a gate or a sink, at the neuron that the row computes. Beside a sink the keys matter as well, and must not be coded at
    the same time.

    Args:
        projections: The output projections, from a neutral pass.
        turn: Which of the projections that may be values writes the code.

    Returns:
        What projections are to write in a pass of SEQUENCES sequences.
    """
    rows: dict[str, Int[Tensor, " row"]] = {}
    for projection in projections:
        for ancestor in projection.averaged[turn : turn + 1]:
            rows[ancestor.name] = _numbers(projection.values(ancestor))

    def write(name: str, output: Tensor) -> Tensor:
        written = write_neutral(name, output)
        if name in rows and output.numel() % (SEQUENCES * output.shape[-1]) == 0:
            chosen = rows[name].to(output.device)
            written.view(SEQUENCES, -1, output.shape[-1])[1:, :, chosen] = digits_of(chosen)[:, None].to(output.dtype)
        return written

    return write


def attention_producers(projection: Lineage, coded: Sequence[Call]) -> tuple[Producer, ...]:
    """Read which value row, and which row of a gate, computes each neuron of an attention block.

    Args:
        projection: The output projection, from a neutral pass.
        coded: Its calls in the passes with `value_codes`, turn by turn.

    Returns:
        The value rows, then those of a gate if there is one; nothing when no code arrived.
    """
    for values, call in zip(projection.averaged, coded, strict=False):
        sequences = call.neurons_at(-1, SEQUENCES).detach().float().cpu()
        rows = number_of(sequences[1:] / sequences[0] * NEUTRAL)
        if rows is not None and torch.isin(rows, _numbers(projection.values(values))).all():
            return (Producer(values.name, rows), *_gates(projection, values))
    return ()


def _gates(projection: Lineage, values: Ancestor) -> tuple[Producer, ...]:
    """The rows that scale one neuron each, leaving out those that are averaged."""
    found = elementwise_producers(projection.call.neurons_at(-1)[0], {one.name: one.output for one in projection.ancestors})
    averaged = _numbers(projection.values(values))
    return tuple(gate for gate in found if gate.name != values.name or not torch.isin(gate.rows, averaged).any())


def elementwise_producers(neurons: Float[Tensor, " neuron"], leaves: dict[str, Tensor]) -> tuple[Producer, ...]:
    """Find which neuron each row computes: weigh neurons by the digits of their number, and see what arrives.

    Args:
        neurons: Neurons at one position, attached to the graph.
        leaves: What projections wrote, by their path.

    Returns:
        Every part of a projection that computes each neuron once; a fused gate and up projection gives two.
    """
    size = len(neurons)
    names, outputs = list(leaves), list(leaves.values())
    plain = _last_rows(gradients_of(neurons, torch.ones(size), outputs))
    coded = [_last_rows(gradients_of(neurons, digit.float(), outputs)) for digit in 1 + digits_of(torch.arange(size))]
    largest = max((float(gradient.abs().max()) for gradient in plain if gradient is not None), default=0.0)
    producers: list[Producer] = []
    for index, name in enumerate(names):
        base, parts = plain[index], [gradients[index] for gradients in coded]
        if base is None or not largest:
            continue
        active = _numbers(base.abs() > NEGLIGIBLE * largest)
        arrived = torch.stack([part[active] / base[active] - 1 for part in parts if part is not None])
        producers += _one_row_each(name, active, number_of(arrived), size)
    return tuple(producers)


def _one_row_each(name: str, rows: Int[Tensor, " row"], neurons: Int[Tensor, " row"] | None, size: int) -> tuple[Producer, ...]:
    """Split the rows of a projection so that every part computes each neuron once; nothing where they do so unevenly."""
    times, rest = divmod(len(rows), size)
    if neurons is None or rest:
        return ()
    order = neurons.argsort(stable=True)
    if not torch.equal(neurons[order], torch.arange(size).repeat_interleave(times)):
        return ()
    return tuple(Producer(name, part) for part in rows[order].view(size, times).T.contiguous())


def expert_producers(model: nn.Module, name: str, experts: nn.Module) -> tuple[int, tuple[Producer, ...]]:
    """Find which rows compute which neurons of experts, from the activation function that they share.

    Args:
        model: The model.
        name: Path of the parameter that reads the neurons.
        experts: The module that holds the experts.

    Returns:
        The number of experts, and the rows of all of them, expert by expert.
    """
    producer = f"{name.rpartition('.')[0]}.{producer_of(experts)}"
    weight = matrix_of(model, producer).weight
    number, size = matrix_of(model, name).weight.shape[0], weight.shape[1]
    written = torch.full((1, size), NEUTRAL, dtype=weight.dtype, device=weight.device, requires_grad=True)
    of_one = elementwise_producers(activated(experts, written)[0], {producer: written})
    starts = size * torch.arange(number)[:, None]
    return number, tuple(Producer(producer, (starts + one.rows).flatten()) for one in of_one)


def half_silenced(groups: Iterable[NeuronGroup]) -> tuple[Writer, dict[str, Bool[Tensor, " neuron"]]]:
    """Have about half of the rows that compute neurons write 0, and all others NEUTRAL.

    Args:
        groups: Neuron groups.

    Returns:
        What projections are to write, and which neurons of each group must be silent then.
    """
    generator = torch.Generator().manual_seed(0)
    silent: dict[str, Bool[Tensor, " neuron"]] = {}
    rows: dict[str, list[Tensor]] = {}
    for group in groups:
        silent[group.name] = torch.zeros(group.size, dtype=torch.bool)
        if group.producers:
            first = group.producers[0].rows
            silent[group.name] = (torch.rand(int(first.max()) + 1, generator=generator) < 0.5)[first]
        for producer in group.producers:
            rows.setdefault(producer.name, []).append(producer.rows[silent[group.name]])

    def write(name: str, output: Tensor) -> Tensor:
        written = write_neutral(name, output)
        written[..., torch.cat(rows.get(name, [torch.zeros(0, dtype=torch.long)])).to(output.device)] = 0
        return written

    return write, silent


def confirmed(group: NeuronGroup, silent: Bool[Tensor, " neuron"], neutral: Call, halved: Call) -> bool:
    """Tell whether the rows of a group compute its neurons alone: theirs are silent, and the others unchanged.

    Args:
        group: The neuron group.
        silent: Which of its neurons must be silent.
        neutral: The call of its output projection in the neutral pass.
        halved: The same call in the pass with `half_silenced`.

    Returns:
        Whether that is what happened.
    """
    before, after = (call.neurons_at(-1)[0].detach().float().cpu() for call in (neutral, halved))
    return torch.allclose(after, before.masked_fill(silent, 0), rtol=CLOSE, atol=CLOSE * float(before.abs().max()))


def _last_rows(gradients: Sequence[Tensor | None]) -> list[Float[Tensor, " row"] | None]:
    """The gradients at the last position."""
    return [None if one is None else one.reshape(-1, one.shape[-1])[-1].float().cpu() for one in gradients]


def _numbers(truths: Bool[Tensor, " n"]) -> Int[Tensor, " m"]:
    """Where something is true."""
    return truths.nonzero().flatten()
