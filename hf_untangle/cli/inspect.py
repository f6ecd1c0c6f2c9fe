"""Commands that look and change nothing: `groups`, `corpora`, `models`, and the list of methods."""

from dataclasses import asdict
from typing import Annotated, Literal

import typer
from rich.table import Table

from hf_untangle.cli.console import (
    DeviceMapOption,
    DtypeOption,
    JsonOption,
    ModelArgument,
    QuietOption,
    RevisionOption,
    TrustOption,
    clear_errors,
)
from hf_untangle.cli.early import check_model_exists
from hf_untangle.cli.streams import results, write_json

TokensOption = Annotated[int, typer.Option(help="How many tokens to read.")]
TowerOption = Annotated[
    Literal["text", "vision", "all"] | None,
    typer.Option(help="Of a model that reads images and text, which layers; those of text when left out."),
]
PartOption = Annotated[Literal["train", "validation", "test"], typer.Option(help="Which part of the corpus.")]


def groups_command(
    model: ModelArgument,
    dtype: DtypeOption = "auto",
    device_map: DeviceMapOption = None,
    revision: RevisionOption = None,
    trust_remote_code: TrustOption = False,
    tower: TowerOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """List the neuron groups of a model: every FFN and attention output projection."""
    with clear_errors(quiet=quiet):
        check_model_exists(model)
        from hf_untangle import models
        from hf_untangle.architecture.locate import neuron_groups
        from hf_untangle.by_name import Loading

        how = Loading(device_map=device_map, revision=revision, trust_remote_code=trust_remote_code)
        found = neuron_groups(models.load(model, dtype=dtype, **how)[0], tower=tower)
        rows = [
            {
                "name": group.name,
                "kind": group.kind,
                "layer": group.layer,
                "neurons": group.size,
                "heads": group.heads,
                "key_value_heads": group.key_value_heads,
                "producers": [producer.name for producer in group.producers],
            }
            for group in found
        ]
        if json:
            write_json(rows)
            return
        table = Table("output projection", "kind", "neurons", "heads", "key-value heads", "computed by")
        for row in rows:
            heads = [str(row[key] or "") for key in ("heads", "key_value_heads")]
            computed_by = ", ".join(name.rpartition(".")[2] for name in row["producers"])
            table.add_row(row["name"], row["kind"], f"{row['neurons']:,}", *heads, computed_by)
        results().print(table)


def corpora_command(json: JsonOption = False) -> None:
    """List the corpora that have a name."""
    with clear_errors():
        from hf_untangle.data.catalogue import CORPORA

        rows = [
            {
                "name": name,
                "what": entry.summary,
                "on the Hub": entry.repository or "",
                "license": entry.license,
                "without network": "yes" if entry.embedded else "no",
            }
            for name, entry in CORPORA.items()
        ]
        if json:
            write_json(rows)
            return
        table = Table(*rows[0])
        for row in rows:
            table.add_row(*row.values())
        results().print(table)


def models_command(
    types: Annotated[
        list[str] | None, typer.Option("--type", help="A model type, such as llama; all of them otherwise.")
    ] = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Build a tiny model of every type in the installed transformers, and say what works on it."""
    with clear_errors(quiet=quiet):
        from hf_untangle.survey.survey import sweep

        found = list(sweep(types or None))
        if json:
            write_json([asdict(one) | {"located": one.located} for one in found])
            return
        table = Table("type", "task", "located", "FFN", "attention", "experts", "layers", "ragged", "uniform", "why not")
        for one in found:
            counts = map(str, (one.ffn, one.attention, one.experts, one.layers))
            located, *smaller = ("yes" if works else "no" for works in (one.located, one.ragged, one.uniform))
            table.add_row(one.type, one.task, located, *counts, *smaller, one.why)
        results().print(table)
        results().print(f"{sum(one.located for one in found)} of {sum(one.builds for one in found)} types located.")


def _list_methods(asked: bool) -> None:
    """Print every method with what it costs, and end."""
    if not asked:
        return
    with clear_errors():
        from rich.table import Table

        from hf_untangle.methods.cost import method_rows

        table = Table("method", "what it does", "source", "per step", "once", "memory", box=None)
        for row in method_rows():
            table.add_row(*row)
        results().print(table)
        results().print(
            "per step, once: forward passes over the forget rows of a step; memory: tensors besides the model's weights."
        )
    raise typer.Exit


ListMethodsOption = Annotated[
    bool, typer.Option("--list-methods", is_eager=True, callback=_list_methods, help="List all methods with what each costs.")
]
"""Lists the methods, and does nothing else."""
