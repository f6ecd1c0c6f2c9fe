"""Interrupted runs: the model as it was, and the same mask in the end."""

import pytest
import torch

from hf_untangle.pruning import iterative, judging
from hf_untangle.pruning import resume as journal
from hf_untangle.pruning.resume import Journal
from hf_untangle.records import provenance
from hf_untangle.statistics.fingerprint import weights_fingerprint


@pytest.fixture
def interrupt(monkeypatch):
    """Press Ctrl-C when a function of the loop is called for the n-th time, once."""

    def arrange(function: str, call: int) -> None:
        where = judging if function == "measure" else iterative
        calls, real = iter(range(1, 1000)), getattr(where, function)

        def interrupted(*args: object, **kwargs: object) -> object:
            if next(calls) == call:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        monkeypatch.setattr(where, function, interrupted)

    return arrange


IN_STEP_2 = [("gather_again", 1), ("remove_next", 2), ("measure", 3), ("random_like", 1)]


@pytest.mark.parametrize(("function", "call"), IN_STEP_2)
def test_an_interrupted_run_leaves_the_model_as_it_was_and_then_goes_on(
    finished, search, toy_model, untouched, interrupt, function, call
):
    interrupt(function, call)
    with untouched(toy_model), pytest.raises(KeyboardInterrupt):
        search()
    resumed = search()
    assert resumed.masks == finished.masks
    assert [step.scores for step in resumed.history.steps] == [step.scores for step in finished.history.steps]
    assert resumed.history.chosen == finished.history.chosen


def test_finished_steps_are_not_done_again_until_the_journal_is_closed(search, interrupt, cache, monkeypatch):
    interrupt("remove_next", 3)
    with pytest.raises(KeyboardInterrupt):
        search()
    assert len(list(cache.rglob("step-*.json"))) == 2
    removed: list[int] = []
    monkeypatch.setattr(iterative, "remove_next", counted(removed, iterative.remove_next))
    search()
    resumed = search()
    assert len(removed) == 2
    resumed.journal.close()
    assert not list(cache.rglob("step-*"))


def counted(calls: list[int], function):
    return lambda *args, **kwargs: calls.append(1) or function(*args, **kwargs)


def test_another_run_does_not_go_on_from_this_one(search, interrupt, cache, monkeypatch):
    interrupt("remove_next", 2)
    with pytest.raises(KeyboardInterrupt):
        search()
    removed: list[int] = []
    monkeypatch.setattr(iterative, "remove_next", counted(removed, iterative.remove_next))
    search(veto=0.01).journal.close()
    assert len(removed) == 4
    assert len(list(cache.rglob("step-*.json"))) == 1, "the journal of the other run stays for when it is called again"


@pytest.mark.parametrize("package", ["hf-untangle", "torch"])
def test_a_run_of_another_version_has_another_journal(toy_model, monkeypatch, package):
    before, again = (Journal.of_run(toy_model, config={}).folder for _ in range(2))
    monkeypatch.setattr(journal, "versions", lambda: provenance.versions() | {package: "99"})
    assert before == again != Journal.of_run(toy_model, config={}).folder


def test_another_model_does_not_go_on_from_the_steps_of_this_one(search, toy_model, interrupt, monkeypatch):
    interrupt("remove_next", 3)
    with pytest.raises(KeyboardInterrupt):
        search()
    with torch.no_grad():
        toy_model.model.norm.weight[0] += 0.01
    removed: list[int] = []
    monkeypatch.setattr(iterative, "remove_next", counted(removed, iterative.remove_next))
    search()
    assert len(removed) == 4


def test_a_step_without_its_record_does_not_count(search, interrupt, cache):
    interrupt("remove_next", 3)
    with pytest.raises(KeyboardInterrupt):
        search()
    (journal,) = (cache / "runs").iterdir()
    (journal / "step-002.json").unlink()
    assert [step.number for step, _ in Journal(journal).read()] == [1]


def test_a_damaged_step_is_done_again_and_the_run_ends_as_it_would_have(finished, search, interrupt, cache, caplog):
    interrupt("remove_next", 3)
    with pytest.raises(KeyboardInterrupt):
        search()
    for file in cache.rglob("step-002.*"):
        whole = file.read_bytes()
        file.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        assert [step.number for step, _ in Journal(file.parent).read()] == [1], file
        file.write_bytes(whole if file.suffix == ".json" else whole[:-1])
    resumed = search()
    assert "continues after step 1, as the next is damaged" in caplog.text
    assert resumed.masks == finished.masks


def test_a_cache_that_cannot_be_written_costs_no_run(finished, search, cache, caplog):
    cache.write_text("a file instead of the folder")
    assert search().masks == finished.masks
    assert "would begin anew, as its journal cannot be written" in caplog.text


def test_the_fingerprint_of_weights_tells_models_apart(taught, toy_model):
    assert weights_fingerprint(taught) == weights_fingerprint(toy_model)
    with torch.no_grad():
        next(toy_model.parameters())[0, 0] += 1
    assert weights_fingerprint(taught) != weights_fingerprint(toy_model)
    assert weights_fingerprint(taught) != weights_fingerprint(toy_model.bfloat16())
