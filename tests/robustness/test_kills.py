"""Whenever a process is killed, what it was writing is the old or the new, and the next call leaves no trace of it."""

import random
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
from kills import Operation, kill, observe
from toy_languages import NUMBERS, TOY_CONFIG, WORDS

from hf_untangle.data.batches import token_blocks
from hf_untangle.folders import MARKER, whole_folder
from hf_untangle.recipes.compact import Compaction
from hf_untangle.statistics.collect import collect
from hf_untangle.unlearn import unlearn

KILLS = {"save": 55, "collect": 45, "compact": 40, "push": 30, "attack": 10, "repair": 10, "unlearn": 10}
"""How many the long form makes, 200 together: most of them where most of the time is spent in writing."""
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")
SIZES = {"tokens": 512, "evaluation_tokens": 256, "steps": 2, "controls": 1, "ffn_fraction": 0.1, "retain_budget": 1.0}
TRAINING = {"steps": 2, "step_tokens": 64, "block_size": 32, "batch_size": 2}


def older(work: Path) -> None:
    """A folder of this package that the call is going to replace, with a file of the user's."""
    with whole_folder(work / "out") as draft:
        (draft / MARKER).write_text('{"what": "an older result"}')
        (draft / "old").write_text("old")
    (work / "out" / "notes").write_text("of the user")


@pytest.fixture
def operations(taught, unlearned, tokenizer, hub, monkeypatch) -> dict[str, Operation]:
    """Everything that writes, on tiny models and without figures."""

    def report(folder: Path, record, *_, **__) -> None:
        (folder / "README.md").write_text(f"# A card of {len(record.attacks)} attacks and {len(record.repairs)} repairs")
        (folder / "report.html").write_text(f"<p>{len(record.attacks)} attacks, {len(record.repairs)} repairs</p>")

    monkeypatch.setattr("hf_untangle.results.unlearned.write_report", report)
    monkeypatch.setattr("hf_untangle.results.base.Result.check_weights", lambda _: None, raising=False)
    blocks = token_blocks(WORDS, tokenizer, tokens=512, block_size=32)

    def forget() -> None:
        config = TOY_CONFIG.with_settings(**SIZES)
        unlearn(deepcopy(taught), NUMBERS, WORDS, tokenizer=tokenizer, config=config, progress=False).save_pretrained("out")

    def count() -> None:
        collect(taught, blocks, batch_size=2, checkpoint_every=2, progress=False).save("out")

    def repair() -> None:
        deepcopy(unlearned).repair(WORDS, progress=False, **TRAINING).save_pretrained("out")

    def attack() -> None:
        settings = {"attacks": ["logit-lens"], "evaluation_tokens": 128, "block_size": 32, "batch_size": 2}
        deepcopy(unlearned).attack(original=taught, progress=False, **settings).save_report("out")

    def push() -> None:
        unlearned.push_to_hub("me/toy", license="mit")
        Path("out").write_text("pushed")

    save = partial(unlearned.save_pretrained, "out")
    small = partial(Compaction(layout="ragged", output="out").compact, "result")
    calls = {
        "unlearn": forget,
        "collect": count,
        "repair": repair,
        "attack": attack,
        "save": save,
        "compact": small,
        "push": push,
    }
    before = dict.fromkeys(calls, older) | {
        "collect": lambda work: (work / "out").write_text("old"),
        "push": lambda _: hub.repositories.clear(),
        "attack": lambda work: unlearned.save_pretrained(work / "out"),
        "compact": lambda work: (older(work), unlearned.save_pretrained(work / "result")),
    }
    return {name: Operation(name, call, before[name]) for name, call in calls.items()}


def wrongs(operation: Operation, place: Path, kills: int) -> list[str]:
    """Kill an operation so many times, and say what was wrong."""
    undisturbed, chance = observe(operation, place), random.Random(operation.name)
    return [wrong for _ in range(kills) for wrong in kill(operation, place, undisturbed, chance)]


@pytest.mark.parametrize("name", ["save", "compact", "collect"])
def test_a_killed_process_leaves_the_old_or_the_new_and_nothing_after_the_rerun(operations, tmp_path, name):
    assert not wrongs(operations[name], tmp_path / "try", 3)


@pytest.mark.parametrize("name", ["attack", "push", "repair", "unlearn"])
def test_what_the_long_form_kills_ends_well_where_nobody_does(operations, tmp_path, name):
    undisturbed = observe(operations[name], tmp_path / "try")
    assert undisturbed.touches > 10 and undisturbed.after != undisturbed.before


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLS)
def test_of_many_killed_processes_none_leaves_half_a_result(operations, tmp_path, name):
    assert not wrongs(operations[name], tmp_path / "try", KILLS[name])
