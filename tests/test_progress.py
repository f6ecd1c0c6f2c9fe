"""One bar for a whole call, with what it does beneath; lines where there is no terminal; and times that follow the work."""

import io
import math
import sys
import time
from types import SimpleNamespace

import pytest
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from toy_languages import NUMBERS, TOY_CONFIG, WORDS
from transformers.utils import logging as transformers_logging

import hf_untangle as untangle
from hf_untangle.errors import BudgetError
from hf_untangle.progress import (
    about,
    bars,
    change,
    lost,
    one_bar,
    passes,
    phase,
    plan_work,
    predict,
    say,
    screens,
    track,
    whole,
)
from hf_untangle.progress.bars import current
from hf_untangle.progress.estimate import Estimate
from hf_untangle.progress.screens import Line, Log, Notebook, Nowhere, Terminal, screen
from hf_untangle.pruning.work import search_work, seconds_per_token


class FakeTerminal(io.StringIO):
    """A terminal that knows what stands on it after carriage returns and moves of the cursor."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.row, self.column = [""], 0, 0
        self.most = 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        parts = text.replace("\x1b[A", "\v")
        for letter in parts:
            if letter == "\v":
                self.row = max(0, self.row - 1)
            elif letter == "\n":
                self.row, self.column = self.row + 1, 0
                self.rows += [""] * (self.row + 1 - len(self.rows))
            elif letter == "\r":
                self.column = 0
            else:
                line = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = line[: self.column] + letter + line[self.column + 1 :]
                self.column += 1
        self.most = max(self.most, len(self.shown()))
        return len(text)

    def shown(self) -> list[str]:
        """What a person sees, without empty lines."""
        return [row.rstrip() for row in self.rows if row.strip()]


@pytest.fixture
def terminal(monkeypatch):
    """Standard error as a terminal, on which bars beneath others are drawn at once."""
    fake = FakeTerminal()
    for module in (screens, bars):  # pytest has a standard error of its own in every phase of a test
        monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=fake, modules=sys.modules))
    monkeypatch.setattr(bars, "SOON", 0)
    monkeypatch.setattr(Terminal, "every", 0)
    return fake


@pytest.fixture
def call(toy_model, tokenizer):
    """Unlearn numbers with a bar, in three steps."""

    def make(**settings):
        return untangle.unlearn(toy_model, NUMBERS, WORDS, tokenizer=tokenizer, config=TOY_CONFIG, **{"steps": 3} | settings)

    return make


def test_time_left_follows_the_work_and_what_each_kind_has_taken():
    estimate = Estimate()
    estimate.plan({"forward": 100, "gradients": 100})
    assert estimate.total == 400 and estimate.share == 0 and estimate.left(1) is None
    estimate.add("forward", 50, 5.0)
    assert estimate.share == pytest.approx(50 / 400)
    assert estimate.left(5.0) == pytest.approx(5 + 3 * 10), "gradients cost three passes forward until they are timed"
    estimate.add("gradients", 50, 50.0)
    assert estimate.left(55.0) == pytest.approx(5 + 50), "they took ten times as long"
    assert estimate.left(110.0) == pytest.approx(2 * 55), "half of the time was other work, and will be"
    estimate.add("forward", 500, 50.0)
    assert estimate.share == pytest.approx(250 / 400), "more of one kind than was planned is not work of another"
    assert passes({"forward": 1, "statistics": 1, "training": 2}) == 8


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "a few seconds"), (44, "40 seconds"), (240, "4 minutes"), (91, "2 minutes"), (7800, "2 h 10 min"), (7200, "2 h")],
)
def test_times_are_as_rough_as_they_are_known(seconds, words):
    assert about(seconds) == words


def test_changes_have_one_sign():
    assert [change(drop) for drop in (0.312, -0.052, 0.0, -0.0, math.nan)] == ["-31.2%", "+5.2%", "+0.0%", "+0.0%", "n/a"]


def test_a_whole_run_is_one_line_and_its_parts_vanish(call, terminal):
    call()
    assert terminal.most >= 3, "the prediction, the bar, and one beneath"
    *said, bar = terminal.shown()
    assert any(line.startswith("unlearning: about ") and " on this machine" in line for line in said)
    assert bar.startswith("unlearning 100%|") and "done in" in bar and "forget -" in bar
    assert sum("%|" in line for line in terminal.shown()) == 1
    assert "--" not in terminal.getvalue() and current.get() is None


def test_a_run_that_fails_leaves_nothing(call, terminal):
    with pytest.raises(BudgetError):
        call(retain_budget=1e-6, ffn_fraction=0.5)
    assert not any("%|" in line for line in terminal.shown())
    assert current.get() is None


def test_without_a_terminal_every_phase_is_a_line(call, capsys):
    call(steps=2)
    out, err = capsys.readouterr()
    assert out == "" and "\r" not in err and "|" not in err
    lines = [line for line in err.splitlines() if line.startswith("unlearning: ")]
    assert "on this machine" in lines[0]
    assert [line.split(": ")[1].split(",")[0].partition(" in ")[0] for line in lines[1:]] == [
        "looking at the original",
        "step 1 of 2",
        "step 2 of 2",
        "held-out text",
        "done",
    ]
    assert "forget -" in lines[3] and "% done" in lines[3]


def test_everything_that_is_planned_is_done(call, monkeypatch):
    seen = []
    monkeypatch.setattr(Estimate, "plan", lambda self, work: seen.append(self) or self._planned.update(dict(work)))
    call(controls=1, bisections=0, retain_budget=0.99, forget_target=1.0)
    planned, done = seen[0]._planned, seen[0]._done
    assert planned["statistics"] == done["statistics"] and planned["gradients"] == pytest.approx(done["gradients"], rel=0.05)
    assert done["forward"] == pytest.approx(planned["forward"], rel=0.2), "the first batch is timed, too"
    assert seen[0].share == pytest.approx(1, abs=0.05)


def test_everything_that_is_planned_of_training_is_done(call, monkeypatch):
    seen = []
    monkeypatch.setattr(Estimate, "plan", lambda self, work: seen.append(self) or self._planned.update(dict(work)))
    call(method="wga", learning_rate=1e-3, steps=4, retain_objective="kl", retain_budget=1.0, disruption_budget=9.0)
    planned, done = seen[0]._planned, seen[0]._done
    assert done["training"] == pytest.approx(planned["training"])
    for kind in ("forward", "statistics"):
        assert done[kind] == pytest.approx(planned[kind], rel=0.3), kind


def test_what_was_before_the_work_says_nothing_of_the_time_left():
    with whole("unlearning"):
        bar = current.get().bars[0]
        phase("the model writes text to retain")
        bar._work_began -= 1000
        plan_work({"forward": 100})
        assert time.perf_counter() - bar._work_began < 10


def test_prune_repair_and_attack_have_one_bar_each(toy_model, tokenizer, terminal):
    small = {"tokens": 512, "evaluation_tokens": 256, "block_size": 32}
    result = untangle.prune(toy_model, WORDS, tokenizer=tokenizer, ratio=0.1, **small)
    result.repair(steps=2, step_tokens=64, block_size=32, batch_size=2)
    bars = [line for line in terminal.shown() if "%|" in line]
    assert [bar.split()[0] for bar in bars] == ["pruning", "repairing"]


def test_a_part_by_itself_is_a_bar(taught, blocks, terminal):
    untangle.collect(taught, blocks)
    (line,) = terminal.shown()
    assert line.startswith("statistics of made 100%|") and "72 tokens" in line


def test_a_part_by_itself_is_a_line_of_a_log(taught, blocks, capsys):
    untangle.collect(taught, blocks)
    assert capsys.readouterr().err.startswith("statistics of made: 72 tokens, ")


def test_a_call_within_a_call_speaks_through_its_bar(terminal):
    @one_bar("inner")
    def inner(*, progress: bool = True) -> None:
        phase("deep")
        lost(forget=0.5)

    with whole("outer"):
        inner()
        assert "deep, forget -50.0%" in terminal.shown()[0]
        with track("part", 2, unit="piece") as bar:
            bar.update()
            assert "part" in terminal.shown()[1] and "1/2 pieces" in terminal.shown()[1]
        phase("after")
        assert len(terminal.shown()) == 1
    (line,) = terminal.shown()
    assert line.startswith("outer 100%|")


def test_a_whole_within_a_plain_bar_is_silent(terminal):
    with track("models", 2, unit="model") as bar:
        with whole("unlearning"):
            phase("step 1 of 2")
            plan_work({"forward": 10})
            predict(lambda: 1.0)
        bar.update()
    assert [line.split()[0] for line in terminal.shown()] == ["models"]


def test_the_first_batch_predicts_the_run_and_what_is_quicker(capsys):
    with whole("unlearning"):
        plan_work({"forward": 1000, "gradients": 1000})
        predict(lambda: 0.06, {"config='quick'": {"forward": 1000}, "config='slow'": {"forward": 10**6}})
        predict(lambda: 0.06, at_most=100)
        predict(lambda: None)
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first == "unlearning: about 4 minutes on this machine; config='quick' takes 60 seconds"
    assert second == "unlearning: about 2 minutes on this machine"


def test_a_first_batch_is_timed_and_never_fails(taught, blocks):
    assert 0 < (seconds_per_token(taught, blocks) or 0) < 1
    assert seconds_per_token(taught, blocks[:0]) is None


def test_work_follows_the_settings():
    work = search_work(TOY_CONFIG, read=4096, judged=2048)
    assert work["statistics"] == 4096, "later statistics come with the gradients"
    assert work["gradients"] == 4 * 4096, "no more tokens than there are"
    by_score = search_work(TOY_CONFIG.with_settings(candidates=1.0), read=4096, judged=2048)
    assert (by_score["statistics"], by_score["gradients"]) == (4 * 4096, 0)
    once = search_work(TOY_CONFIG.with_settings(iterative=False), read=4096, judged=2048)
    assert (once["statistics"], once["gradients"]) == (4096, 4096)


@pytest.fixture
def hub_bars_disabled():
    """As `HF_HUB_DISABLE_PROGRESS_BARS=1` does."""
    disable_progress_bars()
    yield
    enable_progress_bars()


@pytest.fixture
def transformers_bars_disabled():
    """As transformers says it."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    yield
    if shown:
        transformers_logging.enable_progress_bar()


@pytest.fixture
def tqdm_disabled(monkeypatch):
    """As tqdm reads it."""
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.fixture
def another_process(monkeypatch):
    """This one is not the main one."""
    monkeypatch.setattr(screens, "is_main", lambda: False)


@pytest.mark.parametrize("switch", ["hub_bars_disabled", "transformers_bars_disabled", "tqdm_disabled", "another_process"])
def test_bars_that_are_switched_off_are_not_shown(switch, request, terminal):
    request.getfixturevalue(switch)
    assert isinstance(screen(progress=True), Nowhere)
    with whole("unlearning"), track("part", 1) as bar:
        bar.update()
        say("anything")
    assert terminal.getvalue() == ""


def test_screens_fit_where_they_are(monkeypatch, terminal):
    assert isinstance(screen(progress=True), Terminal) and isinstance(screen(progress=False), Nowhere)
    monkeypatch.setattr(screens, "sys", sys)
    assert isinstance(screen(progress=True), Log)
    monkeypatch.setattr(screens, "in_notebook", lambda: True)
    assert isinstance(screen(progress=True), Notebook)


def test_a_resumed_bar_begins_where_it_was(terminal):
    with track("steps", 10, unit="step") as bar:
        bar.resume_at(6)
        assert bar.line() == Line("steps", 0.6, "6/10 steps")
        bar.update(4)
    assert terminal.shown()[0].startswith("steps 100%|")
