"""`hf-untangle`: the commands put together, and what their exit codes mean."""

import logging
import os

import typer

from hf_untangle.cli import demo, entropy, inspect, run, show
from hf_untangle.cli.console import print_version
from hf_untangle.cli.from_recipes import RecipeCommand, add
from hf_untangle.cli.inspect import ListMethodsOption

RECIPE_COMMANDS: dict[str, RecipeCommand] = {
    "unlearn": RecipeCommand(
        "unlearn",
        "Take a capability out of a model and save an ordinary checkpoint without it.",
        ("model",),
        {"list_methods": ListMethodsOption},
    ),
    "prune": RecipeCommand("prune", "Remove the FFN neurons that a text needs least, and save what is left.", ("model",)),
    "repair": RecipeCommand(
        "repair", "Train a result on its retain corpus, while removed neurons stay removed, and save it anew.", ("folder",)
    ),
    "robustify": RecipeCommand(
        "robustify",
        "Distill a result into its own shrunk and perturbed weights, so that it withstands relearning.",
        ("folder",),
    ),
    "restore": RecipeCommand("restore", "Undo a result: put back exactly what was removed, where it was kept.", ("folder",)),
    "attack": RecipeCommand(
        "attack",
        "Quantize, retrain, prompt and inspect copies of an unlearned model: does what it forgot come back?",
        ("folder",),
    ),
    "evaluate": RecipeCommand(
        "evaluate", "Measure what a model can do: on corpora, on prompts with answers, by tasks.", ("model", "corpora")
    ),
    "collect": RecipeCommand(
        "collect", "Collect activation statistics of a model; the same command resumes a stopped one.", ("model", "corpus")
    ),
    "compact": RecipeCommand(
        "compact", "Take removed neurons out of a checkpoint, shard by shard, so that it is smaller.", ("source", "output")
    ),
    "vocabulary": RecipeCommand(
        "vocabulary",
        "Take the tokens out of a model and its tokenizer that a text does not need, and save what is left.",
        ("model",),
    ),
    "hidden-size": RecipeCommand(
        "hidden-size",
        "Make the residual stream of a model narrower, refit what reads it, and save it with what that cost.",
        ("model",),
    ),
    "adapter": RecipeCommand(
        "adapter", "Write a mask as a stock peft (IA)3 adapter of the original model.", ("source", "output")
    ),
    "push": RecipeCommand(
        "push", "Push what this package wrote to the Hub; `--dry-run` lists what would be sent.", ("folder", "repository")
    ),
    "density": RecipeCommand(
        "density", "Prune more and more of a trained network, never retrain, and see how much was needed.", ("model",)
    ),
    "nets": RecipeCommand("nets", "Evolve a mask, with the parameters that learn under it.", ("model",)),
    "translate": RecipeCommand(
        "translate", "Rewrite a network as another one that computes the same function.", ("to", "network")
    ),
    "entropy-masks": RecipeCommand(
        "entropy", "Mask bits or neurons of the lowest, highest and any entropy, and measure what it costs near and far."
    ),
}
"""Commands whose options are the keys of a recipe."""
BENCHMARKS: dict[str, RecipeCommand] = {
    "methods": RecipeCommand(
        "methods", "Let every method unlearn the same corpus at equal disruption, then measure and attack all of them alike."
    ),
    "facts": RecipeCommand(
        "facts", "Fine-tune a model on invented facts, let methods unlearn some, and compare with a model that never saw them."
    ),
    "published": RecipeCommand(
        "published", "TOFU, MUSE and WMDP, in the columns of their published tables; needs the Hub.", ("benchmark",)
    ),
}
"""Commands below `bench`."""

app = typer.Typer(
    name="hf-untangle",
    help="Open Hugging Face models up and take capabilities out of them.",
    epilog="Exit codes: 0 done, 2 wrong usage, 3 bad input (one sentence says what to do), 4 no step inside the budget, "
    "130 interrupted, 143 terminated. With --json, standard output holds nothing but JSON.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(print_version)
app.command("demo")(demo.demo)
for name, command in RECIPE_COMMANDS.items():
    add(app, name, command)
benchmarks = typer.Typer(help="Compare methods on one task.", no_args_is_help=True)
for name, command in BENCHMARKS.items():
    add(benchmarks, name, command)
app.add_typer(benchmarks, name="bench")
app.command("run")(run.run_recipe)
app.command("schema")(run.schema_command)
app.command("show")(show.show_command)
app.command("groups")(inspect.groups_command)
app.command("entropy")(entropy.entropy_command)
app.command("corpora")(inspect.corpora_command)
app.command("models")(inspect.models_command)


def main() -> None:
    """Run the command line."""
    _let_threads_sleep()
    logging.basicConfig(format="%(message)s")
    # Of several processes one speaks; every process says why it failed.
    main = os.environ.get("RANK", "0") == "0"
    logging.getLogger("hf_untangle").setLevel(logging.INFO if main else logging.ERROR)
    # On some processors bitsandbytes says, when transformers imports it, that a kernel is missing which nothing here calls.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    app()


def _let_threads_sleep() -> None:
    """Let the threads of this process sleep once they have waited for each other for a moment, unless the environment says how.

    By default they spin, and beside another busy program two threads that spin fall to a tenth of their speed. Sleeping at once
    makes many small products a quarter slower, such as those of writing text. It must be said before torch is imported, by the
    program that owns the process: a library leaves it alone.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
        os.environ.setdefault("KMP_BLOCKTIME", "0")
