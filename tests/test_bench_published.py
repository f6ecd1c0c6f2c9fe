"""Public benchmarks in the columns of their published tables, on a tiny model and sets of the Hub's shape."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hf_untangle.bench import bench_published
from hf_untangle.bench.facts_training import train_on_answers_
from hf_untangle.bench.published_config import PublishedBenchConfig
from hf_untangle.bench.published_exam import Exam
from hf_untangle.bench.published_sets import PUBLISHED, muse_columns, tofu_columns
from hf_untangle.bench.published_table import published_markdown
from hf_untangle.bench.question_benchmarks import GOLD, ORIGINAL
from hf_untangle.cli.main import app
from hf_untangle.data.answers import answer_blocks
from hf_untangle.data.questions import Question, questions
from hf_untangle.errors import ConfigError
from hf_untangle.recipes.bench_published import Benchmark
from hf_untangle.recipes.read import read_recipe

TURN = "{% for one in messages %}<{{ one.role }}>{{ one.content }}<eos>{% endfor %}"
TEMPLATE = TURN + "{% if add_generation_prompt %}<assistant>{% endif %}"
SMALL = {
    "methods": {"prune": {}},
    "shared": {
        "steps": 1,
        "ffn_fraction": 0.2,
        "attention_fraction": 0.2,
        "retain_budget": 1.0,
        "perplexity_budget": 1e9,
        "forget_target": 1.0,
        "block_size": 128,
    },
    "written_tokens": 2,
    "text_tokens": 64,
}
COLUMNS = {
    "tofu-forget10": ["forget_quality", "model_utility", "forget_truth_ratio", "extraction_strength", "privleak"],
    "muse-news": ["forget_knowmem_ROUGE", "forget_verbmem_ROUGE", "privleak", "retain_knowmem_ROUGE"],
    "wmdp-bio": ["wmdp_bio", "wmdp_bio_robust", "wmdp_bio_cloze"],
}


@pytest.fixture
def folder(tiny_model, tokenizer, tmp_path) -> str:
    """A tiny model that knows some of the sets, as a checkpoint, with a chat template."""
    model = tiny_model("llama", max_position_embeddings=768)
    tokenizer = type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer, eos_token="<eos>", pad_token="<pad>", model_max_length=768
    )
    tokenizer.chat_template = TEMPLATE
    texts = ("A long article. It stays.", "A long paper.", " = One = \n An article.", "<eos><assistant>In Oslo.<eos>")
    blocks = answer_blocks(["A", "A", " ", "Where is it kept? It stays."], texts, tokenizer)
    train_on_answers_(model, blocks, steps=25, learning_rate=1e-2, batch_size=4, seed=0, what="", progress=False)
    model.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return str(tmp_path / "tiny")


@pytest.mark.parametrize("benchmark", COLUMNS)
def test_every_model_has_the_columns_of_the_published_table(folder, public_hub, benchmark):
    record = bench_published(benchmark, original=folder, gold=folder, progress=False, **SMALL)
    assert [row.name for row in record.rows] == [ORIGINAL, GOLD, "prune"]
    for row in record.rows:
        # A tiny model may lose as much of one corpus as of the other, which leaves a row with a note alone.
        assert list(row.columns) == COLUMNS[benchmark] or (row.name == "prune" and row.note)
    original, gold = record.rows[:2]
    assert original.columns == gold.columns  # They are one checkpoint here.
    assert original.columns.get("forget_quality", 1.0) == 1.0
    assert f"# {benchmark}" in published_markdown(record) and "| prune |" in published_markdown(record)
    opened = {call[0] for call in public_hub}
    assert opened <= {"locuslab/TOFU", "muse-bench/MUSE-News", "cais/wmdp", *WMDP}


WMDP = ("cais/wmdp-bio-forget-corpus", "EleutherAI/wmdp_bio_robust_mcqa", "EleutherAI/wmdp_bio_cloze", "Salesforce/wikitext")


def test_questions_of_tofu_are_chats_with_its_system_prompt_and_end_as_the_template_ends_them(tiny_model, tokenizer):
    tokenizer = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<eos>", pad_token="<pad>")
    tokenizer.chat_template = TEMPLATE
    exam = Exam(tiny_model("llama"), tokenizer, PublishedBenchConfig(), "Be kind.", {"date_string": "today"})
    (ended,) = exam.ended([Question("Where?", "Ann.", wrong=("Bob.",))])
    assert (ended.answer, ended.paraphrase, ended.wrong) == ("Ann.<eos>", "Ann.<eos>", ("Bob.<eos>",))
    chat = exam._chat("Where?")
    assert [one["content"] for one in chat.messages] == ["Be kind.", "Where?"] and chat.settings == {"date_string": "today"}
    assert replace(exam, system=None)._end() == "<eos>"


def test_some_questions_are_taken_from_all_over_a_set(tiny_model, tokenizer):
    every = questions("facts-forget")
    exam = Exam(tiny_model("llama"), tokenizer, PublishedBenchConfig(questions=2))
    assert exam.questions("facts-forget") == (every[0], every[len(every) // 2])


def test_columns_that_need_gold_are_empty_without_it():
    own = {"ratios": [0.1], "model_utility": 0.5, "forget_truth_ratio": 0.5, "extraction_strength": 0.1, "min_k_auc": 0.9}
    assert tofu_columns(own, None)["forget_quality"] is None and tofu_columns(own, None)["privleak"] is None
    rouge = dict.fromkeys(("forget_knowmem_ROUGE", "forget_verbmem_ROUGE", "retain_knowmem_ROUGE"), 0.5)
    columns = muse_columns(rouge | {"min_k_auc": 0.9}, {"min_k_auc": 0.5})
    assert columns["privleak"] == pytest.approx(-80)


def test_models_of_the_published_tables_are_named():
    tofu = PUBLISHED["tofu-forget10"]
    assert tofu.original == "open-unlearning/tofu_Llama-3.2-1B-Instruct_full"
    assert tofu.gold == "open-unlearning/tofu_Llama-3.2-1B-Instruct_retain90"
    assert PUBLISHED["muse-books"].gold == "muse-bench/MUSE-Books_retrain"
    assert set(Benchmark.__args__) == set(PUBLISHED)


def test_what_does_not_exist_is_refused_before_anything_is_loaded():
    with pytest.raises(ConfigError, match="must be one of tofu-forget01.*got `tofu-forget11` .did you mean"):
        bench_published("tofu-forget11")
    with pytest.raises(ConfigError, match="method must be one of .*, got `npoo`"):
        bench_published("muse-news", methods={"npoo": {}})
    with pytest.raises(ConfigError, match="There is no setting `learning_rat`"):
        bench_published("muse-news", methods={"npo": {"learning_rat": 1e-5}})


@pytest.mark.parametrize("name", ["tofu-forget10", "muse-news", "wmdp-bio"])
def test_recipes_have_settings_that_their_methods_know(name, monkeypatch):
    def begin(*_, **__):
        raise ConfigError("loaded")

    monkeypatch.setattr("hf_untangle.models.load", begin)
    recipe = read_recipe(Path(__file__).parents[1] / "recipes" / "bench" / f"{name}.yaml")
    with pytest.raises(ConfigError, match="loaded"):
        bench_published(recipe.benchmark, **recipe.settings)


def test_the_command_writes_the_record_and_a_table(folder, public_hub, tmp_path):
    out = tmp_path / "out"
    given = ["bench", "published", "muse-news", "--original", folder, "--gold", folder, "--output", str(out), "--quiet"]
    settings = [f"--set={name}={json.dumps(value)}" for name, value in SMALL.items()]
    done = CliRunner().invoke(app, [*given, *settings])
    assert done.exit_code == 0, done.output
    assert "privleak" in (out / "published.md").read_text()
