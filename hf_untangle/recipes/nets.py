"""Ticket search: over the weights of a small network on digits, or over the neurons of a language model."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_core import to_json
from rich.console import Console
from rich.table import Table

from hf_untangle import models
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.errors import UntangleError
from hf_untangle.folders import MARKER, check_replaceable, whole_folder
from hf_untangle.nets.neuron_search import NeuronTicket, search_neurons
from hf_untangle.nets.record import Ticket
from hf_untangle.nets.ticket_search import search
from hf_untangle.papers.tickets.comparison import Contestant, compare
from hf_untangle.papers.tickets.digits import NetworkName, digits_task
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.model_option import ModelOption
from hf_untangle.recipes.plan import Outcome


class Recipe(ModelOption):
    """A search for a ticket: of a `network` on digits, or of a language `model`."""

    task: Literal["nets"] = Field(description="What kind of job this is.")
    network: NetworkName | None = Field(default=None, description="A small network on handwritten digits.")
    width: int = Field(default=64, ge=1, description="Hidden neurons of that network, or channels.")
    compare_after: tuple[int, ...] = Field(default=(60, 1500), description="Steps of training at which rivals are scored.")
    model: str | None = Field(default=None, description="A Hub id, a folder, or `smollm2`, whose neurons are searched over.")
    retain: CorpusChoice = Field(default=CorpusChoice(source="general"), description="What the model must keep.")
    forget: CorpusChoice | None = Field(default=None, description="What it is to lose, if anything.")
    tokens: int = Field(default=16_384, ge=1, description="Tokens of each corpus.")
    block_size: int = Field(default=128, ge=2, description="Tokens a block.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of the search.")
    output: str = Field(description="The folder that the result is written to.")

    @model_validator(mode="after")
    def _one_of_two(self) -> "Recipe":
        """Refuse a search of both, or of nothing."""
        if (self.network is None) == (self.model is None):
            raise ValueError("name either a `network` on digits or a language `model`")
        return self


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Search, and write the ticket with its record.

    Args:
        recipe: The job.
        progress: Whether to show a progress bar.

    Returns:
        What came of it.
    """
    check_replaceable(recipe.output, source=recipe.model)
    return _weights(recipe, recipe.network, progress) if recipe.network else _neurons(recipe, str(recipe.model), progress)


def _weights(recipe: Recipe, shape: NetworkName, progress: bool) -> Outcome:
    """Search over the weights of a small network, and compare with other ways to as many weights."""
    network, train, validation, test = digits_task(shape, recipe.width)
    ticket = search(network, train, validation, progress=progress, **recipe.settings)
    record: dict[str, Any] = {"network": shape, "width": recipe.width, **ticket.record(), "contestants": []}
    contestants: list[Contestant] = []
    try:
        contestants = compare(network, ticket, train, test, steps=recipe.compare_after)
    except UntangleError as error:  # the search took long, and its ticket is worth keeping
        record["not_compared"] = str(error)
    record["contestants"] = [
        {"name": one.name, "density": one.density, "accuracies": one.accuracies, "search_steps": one.search_steps}
        for one in contestants
    ]
    _write(recipe.output, record, ticket)
    return Outcome(record, lambda console: _show_contestants(contestants, record, recipe.output, console))


def _neurons(recipe: Recipe, name: str, progress: bool) -> Outcome:
    """Search over the neurons of a language model."""
    model, tokenizer = models.load(name, **recipe.loading)

    def read(choice: CorpusChoice) -> TokenBlocks:
        return token_blocks(choice.open(), tokenizer, tokens=recipe.tokens, block_size=recipe.block_size)

    retain, forget = read(recipe.retain), read(recipe.forget) if recipe.forget else None
    ticket = search_neurons(model, retain, forget=forget, progress=progress, **recipe.settings)
    record = {"model": name, "settings": recipe.settings, **ticket.record()}
    record["corpora"] = {"retain": retain.record()} | ({"forget": forget.record()} if forget is not None else {})
    _write(recipe.output, record, ticket)
    return Outcome(record, lambda console: _show_mask(ticket, recipe.output, console))


def _write(output: str, record: dict[str, Any], ticket: Ticket | NeuronTicket) -> None:
    """Write the ticket and its record, or nothing."""
    with whole_folder(Path(output)) as draft:
        (draft / MARKER).write_bytes(to_json(record, indent=2))
        if isinstance(ticket, Ticket):
            ticket.save(draft / "ticket.safetensors")
        else:
            ticket.mask.save(draft / "mask.safetensors")


def _show_contestants(contestants: list[Contestant], record: dict[str, Any], output: str, console: Console) -> None:
    """Print how the ticket did beside its rivals, or why it was not compared."""
    if reason := record.get("not_compared"):
        console.print(f"The ticket was not compared: {reason}")
    else:
        steps = list(contestants[0].accuracies)
        table = Table("", "density", *(f"test accuracy after {count:,} steps" for count in steps), "steps to find it")
        for one in contestants:
            scores = [f"{one.accuracies[count]:.1%}" for count in steps]
            table.add_row(one.name, f"{one.density:.1%}", *scores, f"{one.search_steps:,}")
        console.print(table)
    console.print(f"Saved in {output}: ticket.safetensors and {MARKER}.")


def _show_mask(ticket: NeuronTicket, output: str, console: Console) -> None:
    """Print how the search ended."""
    last = ticket.history[-1]
    console.print(f"The best mask {ticket.mask.describe()}, with a retain loss of {last.loss:.3f} nats on its last blocks.")
    console.print(f"{len(ticket.history)} generations took {ticket.seconds:.0f} s and {ticket.forwards:,} blocks forward.")
    console.print(f"Saved in {output}: mask.safetensors and {MARKER}.")
