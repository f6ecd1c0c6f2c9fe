"""`hf-untangle`: the commands put together, and what their exit codes mean."""

import logging
import os

import typer

from hf_untangle.cli import (
    attack,
    collect,
    compact,
    density,
    entropy,
    evaluate,
    inspect,
    models,
    nets,
    prune,
    repair,
    run,
    sharing,
    show,
    translate,
    unlearn,
)

app = typer.Typer(
    name="hf-untangle",
    help="Open Hugging Face models up and take capabilities out of them.",
    epilog="Exit codes: 0 done, 2 wrong usage, 3 bad input (one sentence says what to do), 4 no step inside the budget, "
    "130 interrupted, 143 terminated. With --json, standard output holds nothing but JSON.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(unlearn.demo)
app.command("unlearn")(unlearn.unlearn_command)
app.command("repair")(repair.repair_command)
app.command("attack")(attack.attack_command)
app.command("prune")(prune.prune_command)
app.command("density")(density.density_command)
app.command("nets")(nets.nets_command)
app.command("compact")(compact.compact_command)
app.command("run")(run.run_recipe)
app.command("schema")(run.schema_command)
app.command("show")(show.show_command)
app.command("adapter")(sharing.adapter_command)
app.command("push")(sharing.push_command)
app.add_typer(translate.app, name="translate")
app.command("collect")(collect.collect_command)
app.command("evaluate")(evaluate.evaluate_command)
app.command("groups")(inspect.groups_command)
app.command("entropy")(entropy.entropy_command)
app.command("entropy-masks")(entropy.entropy_masks_command)
app.command("corpora")(inspect.corpora_command)
app.command("models")(models.models_command)


def main() -> None:
    """Run the command line."""
    logging.basicConfig(format="%(message)s")
    # Of several processes one speaks; whoever fails still says why.
    main = os.environ.get("RANK", "0") == "0"
    logging.getLogger("hf_untangle").setLevel(logging.INFO if main else logging.ERROR)
    app()
