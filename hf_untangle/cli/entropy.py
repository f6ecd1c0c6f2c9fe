"""The command `entropy`: how much every neuron tells."""

from pathlib import Path
from typing import Annotated

import typer

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


def entropy_command(  # noqa: PLR0913 (each is an option)
    model: ModelArgument,
    corpus: Annotated[str, typer.Option(help="A named corpus, a file or a folder.")] = "general",
    tokens: Annotated[int, typer.Option(help="How many tokens to read.")] = 16_384,
    threshold: Annotated[str, typer.Option(help="When a neuron's bit is on: above zero, or above its running mean.")] = "zero",
    figure: Annotated[str | None, typer.Option(help="Also draw histograms by layer, into this file.")] = None,
    dtype: DtypeOption = "auto",
    device_map: DeviceMapOption = None,
    revision: RevisionOption = None,
    trust_remote_code: TrustOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Measure the entropy of every neuron of a model on a corpus, and count those that are always on or off."""
    with clear_errors(quiet=quiet):
        check_model_exists(model)
        from rich.table import Table

        from hf_untangle import models
        from hf_untangle.by_name import Loading
        from hf_untangle.data.batches import token_blocks
        from hf_untangle.entropy.overview import collect_entropy, overview
        from hf_untangle.folders import check_file, whole_file

        if figure is not None:
            check_file(figure)

        how = Loading(device_map=device_map, revision=revision, trust_remote_code=trust_remote_code)
        loaded, tokenizer = models.load(model, dtype=dtype, **how)
        statistics = collect_entropy(loaded, token_blocks(corpus, tokenizer, tokens=tokens), threshold, progress=not quiet)
        rows = overview(statistics)
        if figure is not None:
            from hf_untangle.importance.entropy import entropy
            from hf_untangle.reporting.entropy_plots import entropy_histograms

            drawing = entropy_histograms({group: entropy(moments) for group, moments in statistics.items()})
            with whole_file(figure) as draft:
                drawing.savefig(draft, format=Path(figure).suffix.removeprefix(".") or "svg")
        if json:
            write_json([row.record() for row in rows])
            return
        table = Table("output projection", "neurons", "entropy: 5%", "median", "95%", "always on", "always off")
        for row in rows:
            quantiles = [f"{value:.3f}" for value in (row.low, row.median, row.high)]
            table.add_row(row.group, f"{row.neurons:,}", *quantiles, str(row.always_on), str(row.always_off))
        results().print(table)
