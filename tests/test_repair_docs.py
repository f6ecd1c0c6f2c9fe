"""The code on the page about repair runs as it is printed, and its table has every setting."""

import re
from pathlib import Path

import pytest
from toy_languages import BLOCK, NUMBERS, TOY_CONFIG, WORDS
from trainers import a_trainer, examples

import hf_untangle as untangle
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.configs import unlearn as config
from hf_untangle.configs.repair import LEARNING_RATE, RepairConfig
from hf_untangle.masks.removal import remove_

PAGE = (Path(__file__).parents[1] / "docs" / "repair.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
SMALL = {"step_tokens": 128, "block_size": BLOCK, "batch_size": 4, "evaluation_tokens": 512}

pytestmark = [
    pytest.mark.filterwarnings("ignore:The PEFT config's `base_model_name_or_path` was renamed:UserWarning"),
]


@pytest.fixture
def reader(toy_model, tokenizer, tmp_path, monkeypatch):
    """What a reader has: a model, a mask, a data set and arguments for a Trainer, all of them small."""
    monkeypatch.chdir(tmp_path)
    for module in ("pruning.tasks", "repairing.repair", "callbacks.unlearn_evaluation"):
        monkeypatch.setattr(f"hf_untangle.{module}.find_tokenizer", lambda *_: tokenizer)
    languages = {"code": untangle.corpus(NUMBERS), "general": untangle.corpus(WORDS)}
    for module in ("pruning.tasks.corpus", "data.batches.corpus"):
        monkeypatch.setattr(
            f"hf_untangle.{module}", lambda source: languages.get(source, source) if isinstance(source, str) else source
        )
    monkeypatch.setitem(config.PRESETS, "default", TOY_CONFIG.with_settings(steps=1))
    for module in ("unlearned", "repairing.repair"):
        monkeypatch.setattr(f"hf_untangle.{module}.RepairConfig", lambda: RepairConfig(**SMALL))
    return {"untangle": untangle, "model": toy_model, "dataset": examples(), "arguments": a_trainer(toy_model, tmp_path).args}


@pytest.mark.slow
def test_the_code_on_the_page_runs(reader):
    unlearn, alone, callbacks = SNIPPETS
    exec(unlearn, reader)
    assert [one.settings["method"] for one in reader["result"].record.repairs] == ["lora", "full"]
    assert Path("smollm2-without-code/report.html").exists()
    reader["mask"] = reader["result"].mask
    remove_(reader["model"], reader["mask"], neuron_groups(reader["model"]))
    exec(alone, reader)
    assert reader["record"].settings["steps"] == RepairConfig().steps
    exec(callbacks, reader)
    logged = {key for entry in reader["trainer"].state.log_history for key in entry}
    assert "eval_forget_top1" in logged


def test_every_setting_and_its_default_are_on_the_page():
    table = PAGE.partition("| setting | default |")[2].partition("\n\n")[0]
    assert [name for name in RepairConfig.model_fields if f"`{name}`" not in table] == []
    defaults = RepairConfig()
    assert f"| {defaults.steps}, {defaults.step_tokens:,} |" in table
    assert f"| {defaults.block_size}, {defaults.batch_size} |" in table
    rates = [f"{LEARNING_RATE[method]:.0e}".replace("e-0", "e-") for method in ("lora", "full")]
    assert f"| {rates[0]} (`lora`), {rates[1]} (`full`) |" in table
