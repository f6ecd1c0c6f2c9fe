"""`untangle.evaluate`, the command and the recipes: every metric with one call, on text, on pairs, and by tasks."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy_languages import NUMBERS, WORDS
from typer.testing import CliRunner

from hf_untangle.cli.main import app
from hf_untangle.data.questions import questions
from hf_untangle.errors import ConfigError, CorpusError, MissingExtraError
from hf_untangle.evaluation import score_cache as material
from hf_untangle.evaluation.evaluate import evaluate
from hf_untangle.evaluation.metric_inputs import FEEDS
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.evaluation.token_scores import token_scores
from hf_untangle.recipes.read import read_recipe
from hf_untangle.reporting.evaluation import AS_THEY_ARE, WHAT, evaluation_table

DOCS = Path(__file__).parents[1] / "docs" / "how-to" / "evidence.md"
RECIPES = sorted((Path(__file__).parents[1] / "recipes" / "evaluate").glob("*.yaml"))
SMALL = {"tokens": 512, "block_size": 32, "prompts": 3, "max_new_tokens": 8, "progress": False}
PAIRS = [
    {
        "prompt": "the cat sat on",
        "answer": "a mat",
        "paraphrase": "a mat and saw",
        "wrong": ["12 34"],
        "choices": ["a mat", "12 34"],
    },
    {"prompt": "and saw red", "answer": 1, "paraphrase": "birds fly", "wrong": ["hzzz", "99"], "choices": ["qqqqq", "birds"]},
]


@pytest.fixture
def folder(taught, tokenizer, tmp_path, monkeypatch) -> Path:
    """A folder with a checkpoint `toy`, the corpora `numbers.jsonl` and `words.jsonl`, and `pairs.jsonl`."""
    taught.save_pretrained(tmp_path / "toy")
    tokenizer.save_pretrained(tmp_path / "toy")
    for name, texts in (("numbers", NUMBERS), ("words", WORDS)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(PAIRS[0] | {"answer": "a mat"}) + "\n" for _ in PAIRS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_accuracy_and_perplexity_are_those_of_next_token_metrics(taught, tokenizer):
    found = evaluate(taught, WORDS, tokenizer=tokenizer, **SMALL)
    blocks = material.token_blocks(WORDS, tokenizer, tokens=512, block_size=32, part="test")
    expected = next_token_metrics(taught, blocks, progress=False).record()
    assert found.values == pytest.approx(expected, rel=1e-5)
    assert found.model == "tiny-llama" and found.sources == {"corpus": "strings that were passed in"}


def test_every_metric_comes_from_one_call_and_leaves_the_model_as_it_was(taught, tokenizer, untouched):
    pytest.importorskip("rouge_score", reason="rouge_score is not installed (extra `eval`)")
    with untouched(taught):
        found = evaluate(taught, WORDS, holdout=NUMBERS, pairs=PAIRS, metrics=list(FEEDS), tokenizer=tokenizer, **SMALL)
    assert {"top1", "perplexity", "truth_ratio", "min_k_auc", "rougeL", "degenerate", "accuracy_by_letter", "chance"} < set(
        found.values
    )
    assert all(math.isfinite(value) for value in found.values.values())
    assert set(found.values) == set(WHAT)
    assert evaluation_table({"words": found}).row_count == len(WHAT)
    assert found.values["accuracy_by_text"] == 1.0
    assert found.values["chance"] == 0.5
    assert found.values["true_by_ratio"] > 0.9
    assert json.loads(json.dumps(found.record()))["sources"]["pairs"] == "2 pairs"


def test_the_page_names_every_metric_and_every_number_has_words():
    page = DOCS.read_text()
    assert all(f"| `{name}` |" in page for name in FEEDS)
    assert all(f"`{name}`" in page for name in AS_THEY_ARE[1:])


def test_the_model_runs_once_over_each_text_whatever_is_asked_of_it(taught, tokenizer, monkeypatch):
    passes = []
    monkeypatch.setattr(material, "token_scores", lambda *args, **how: passes.append(1) or token_scores(*args, **how))
    metrics = ["top_k_accuracy", "perplexity", "exact_memorization", "extraction_strength", "answer_probability"]
    evaluate(taught, WORDS, metrics=metrics, tokenizer=tokenizer, **SMALL)
    assert len(passes) == 2  # Running text, and its documents by halves.


def test_the_usual_metrics_of_pairs_are_about_what_is_known_by_heart(taught, tokenizer):
    found = evaluate(taught, pairs=PAIRS, tokenizer=tokenizer, **SMALL)
    assert set(found.values) == {"answer_probability", "exact_memorization", "extraction_strength"}
    assert found.values["answer_probability"] > 0.3


def test_the_probability_of_an_answer_is_that_of_the_model(taught, tokenizer):
    text = tokenizer("the cat sat on a mat", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logs = taught(text).logits.log_softmax(-1)[0, :-1].gather(1, text[0, 1:, None])[-len(" a mat") :, 0]
    found = evaluate(taught, pairs=PAIRS[:1], metrics=["answer_probability"], tokenizer=tokenizer, **SMALL)
    assert found.values["answer_probability"] == pytest.approx(float(logs.mean().exp()), rel=1e-5)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, "must be judged on something"),
        ({"corpus": WORDS, "metrics": ["bleu"]}, "A metric must be one of .*, got `bleu`"),
        ({"corpus": WORDS, "metrics": ["membership_auc"]}, "needs holdout=, got none"),
        ({"pairs": PAIRS, "metrics": ["perplexity"]}, "needs corpus=, got none"),
        ({"corpus": WORDS, "metrics": ["choice_by_text"]}, "needs pairs=, got none"),
        ({"pairs": [{"prompt": "a", "answer": "b"}], "metrics": ["paraphrase_probability"]}, "`paraphrase` in every row"),
        ({"corpus": WORDS, "tokns": 3}, "There is no setting `tokns` .did you mean `tokens`"),
        ({"corpus": WORDS, "prompts": 0}, "`prompts`: input should be greater than or equal to 1, got 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(taught, tokenizer, how, message):
    with pytest.raises(ConfigError, match=message):
        evaluate(taught, tokenizer=tokenizer, **(SMALL | how))


def test_questions_are_read_by_the_names_of_public_sets(folder):
    (one,) = questions([{"question": "q", "answer": "a", "paraphrased_answer": "b", "perturbed_answer": ["c", "d"]}])
    assert (one.prompt, one.answer, one.paraphrase, one.wrong, one.choices) == ("q", "a", "b", ("c", "d"), ())
    assert questions(PAIRS)[1].answer == "birds"
    assert [one.prompt for one in questions("pairs.jsonl")] == ["the cat sat on"] * 2
    assert questions(questions(PAIRS)) == questions(PAIRS)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "has no rows"),
        ("missing.jsonl", "must be in a table"),
        (iter(["a text"]), "row 0 of `pairs` is a str"),
        ([{"prompt": "a"}], "must have a text `prompt` and a text `answer`"),
        ([{"prompt": "a", "answer": 2, "choices": ["b", "c"]}], "must have a text `prompt` and a text `answer`"),
        ([{"prompt": "a", "answer": "d", "choices": ["b", "c"]}], "must have a text `prompt` and a text `answer`"),
    ],
)
def test_rows_that_are_no_questions_are_refused(source, message):
    with pytest.raises(CorpusError, match=message):
        questions(source)


def test_the_command_measures_pairs_and_corpora_and_writes_the_numbers(folder):
    small = ["--set", "block_size=32", "--set", "prompts=2", "--tokens", 256]
    done = run(
        "evaluate",
        "toy",
        "words.jsonl",
        "--pairs",
        "pairs.jsonl",
        "--metrics",
        "extraction_strength",
        *small,
        "-o",
        "out/n.json",
    )
    assert done.exit_code == 0, done.stderr
    assert "extraction strength" in done.stdout and "words.jsonl" in done.stdout and "out/n.json" in done.stdout
    found = json.loads((folder / "out" / "n.json").read_text())
    assert found.keys() == {"words.jsonl", "pairs"}
    assert 0 < found["pairs"]["extraction_strength"] <= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--metrics", "bleu", "words.jsonl"), "A metric must be one of"),
        ((), "must be judged on something"),
        (("words.jsonl", "--set", "tokns=3"), "There is no setting `tokns`"),
        (("--pairs", "words.jsonl"), "must have a text `prompt`"),
    ],
)
def test_bad_input_of_the_command_ends_with_3(folder, words, message):
    done = run("evaluate", "toy", *words)
    assert done.exit_code == 3
    assert message in " ".join(done.stderr.split())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_our_own_recipes_run_on_a_tiny_model(folder, path):
    small = {
        "model": "toy",
        "settings.tokens": 256,
        "settings.prompts": 1,
        "settings.max_new_tokens": 2,
        "output": "numbers.json",
    }
    recipe = folder / path.name
    recipe.write_text(path.read_text())
    assert read_recipe(recipe).model_dump()["task"] == "evaluate"
    words = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    done = run("run", recipe, *words, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((folder / "numbers.json").read_text())


SHARED = """
import json, sys
import torch
import hf_untangle as untangle
from hf_untangle import distributed, models
torch.set_num_threads(1)
distributed.join()
model, tokenizer = models.load("toy")
metrics = ["top_k_accuracy", "perplexity", "extraction_strength", "answer_probability", "membership_auc", "repetition"]
small = {"tokens": 512, "block_size": 32, "prompts": 3, "max_new_tokens": 8, "progress": False}
found = untangle.evaluate(model, "words.jsonl", holdout="numbers.jsonl", metrics=metrics, tokenizer=tokenizer, **small)
with open(f"found-{distributed.place()[0]}.json", "w") as file:
    json.dump(found.values, file)
"""


@pytest.mark.slow
def test_two_processes_share_the_texts_and_both_get_what_one_gets(folder, tmp_path):
    (tmp_path / "shared.py").write_text(SHARED)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(DOCS.parents[1]), "ACCELERATE_USE_CPU": "true"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]

    def numbers(command: list[str], process: int) -> dict[str, float]:
        done = subprocess.run([*command, "shared.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return json.loads((folder / f"found-{process}.json").read_text())

    second = numbers(launcher, 1)
    assert json.loads((folder / "found-0.json").read_text()) == second
    assert numbers([sys.executable], 0) == pytest.approx(second, rel=1e-5)


def test_tasks_say_what_to_install(taught, tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hf-untangle\[eval\]'"):
        evaluate(taught, tasks=["arc_easy"], tokenizer=tokenizer, **SMALL)


TASK = """
task: spelling
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/spelling.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{prompt}}"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_task_of_lm_eval_runs_on_the_model_in_memory(taught, tokenizer, tmp_path, monkeypatch, untouched):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra `eval`)")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    rows = [
        {"prompt": "the cat sat on a", "choices": ["mat", "12"], "answer": 0},
        {"prompt": "the small", "choices": ["45", "dogs"], "answer": 1},
    ]
    (tmp_path / "spelling.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "spelling.yaml").write_text(TASK.replace("FOLDER", str(tmp_path)))
    random_numbers = torch.get_rng_state()
    with untouched(taught):
        found = evaluate(taught, tasks=[str(tmp_path / "spelling.yaml")], tokenizer=tokenizer, **SMALL)
    assert found.tasks["spelling"]["acc"] == 1.0 and found.tasks["spelling"]["samples"] == 2
    assert torch.equal(torch.get_rng_state(), random_numbers)
    with pytest.raises(ConfigError, match="has none called spelink"):
        evaluate(taught, tasks=["spelink"], tokenizer=tokenizer, **SMALL)


def test_an_empty_list_of_metrics_is_refused(taught, tokenizer):
    with pytest.raises(ConfigError, match="`metrics` must name at least one of"):
        evaluate(taught, ["the cat sat"], metrics=[], tokenizer=tokenizer, **SMALL)
