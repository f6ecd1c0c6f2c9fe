"""Commands that look and change nothing: `groups`, `corpora` and `evaluate`."""

from typing import Annotated, Literal

import typer
from rich.table import Table

from hf_untangle.cli.collect import BatchSizeOption, MaxSecondsOption, batch_size_of
from hf_untangle.cli.console import DtypeOption, JsonOption, ModelArgument, clear_errors, console, print_json

TokensOption = Annotated[int, typer.Option(help="How many tokens to read.")]
CorpusArgument = Annotated[str, typer.Argument(help="A named corpus, a file or a folder.")]
PartOption = Annotated[Literal["train", "validation", "test"], typer.Option(help="Which part of the corpus.")]


def groups_command(model: ModelArgument, dtype: DtypeOption = "auto", json: JsonOption = False) -> None:
    """List the neuron groups of a model: every FFN and attention output projection."""
    with clear_errors():
        from hf_untangle import models
        from hf_untangle.architecture.locate import neuron_groups

        found = neuron_groups(models.load(model, dtype=dtype)[0])
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
            print_json(rows)
            return
        table = Table("output projection", "kind", "neurons", "heads", "key-value heads", "computed by")
        for row in rows:
            heads = [str(row[key] or "") for key in ("heads", "key_value_heads")]
            computed_by = ", ".join(name.rpartition(".")[2] for name in row["producers"])
            table.add_row(row["name"], row["kind"], f"{row['neurons']:,}", *heads, computed_by)
        console.print(table)


def corpora_command(json: JsonOption = False) -> None:
    """List the corpora that have a name."""
    with clear_errors():
        from hf_untangle.data.catalogue import CORPORA

        rows = [
            {
                "name": name,
                "what": entry.summary,
                "on the Hub": entry.repository,
                "licence": entry.licence,
                "without network": "yes" if entry.embedded else "no",
            }
            for name, entry in CORPORA.items()
        ]
        if json:
            print_json(rows)
            return
        table = Table(*rows[0])
        for row in rows:
            table.add_row(*row.values())
        console.print(table)


def evaluate_command(
    model: ModelArgument,
    corpus: Annotated[list[str], typer.Argument(help="Named corpora, files or folders.")],
    tokens: TokensOption = 8_192,
    part: PartOption = "test",
    dtype: DtypeOption = "auto",
    batch_size: BatchSizeOption = "8",
    max_seconds: MaxSecondsOption = None,
    json: JsonOption = False,
) -> None:
    """Measure next-token accuracy and perplexity of a model on corpora."""
    with clear_errors():
        from hf_untangle import models
        from hf_untangle.data.batches import token_blocks
        from hf_untangle.evaluation.next_token import next_token_metrics

        limits = {"batch_size": batch_size_of(batch_size), "max_seconds": max_seconds}
        loaded, tokenizer = models.load(model, dtype=dtype)
        metrics = {
            name: next_token_metrics(loaded, token_blocks(name, tokenizer, tokens=tokens, part=part), **limits)
            for name in corpus
        }
        if json:
            print_json({name: metric.record() for name, metric in metrics.items()})
            return
        table = Table("corpus", "tokens", "top-1", "top-10", "perplexity")
        for name, metric in metrics.items():
            table.add_row(name, f"{metric.tokens:,}", f"{metric.top1:.1%}", f"{metric.top10:.1%}", f"{metric.perplexity:.1f}")
        console.print(table)
