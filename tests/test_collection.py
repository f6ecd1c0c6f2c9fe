"""Collection that never stands in the way: batches that fit, limits, and continuing after a stop."""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toy_languages import BLOCK, NUMBERS

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.data import batch_size as batch_sizes
from hf_untangle.data.batch_size import Batches, first_size, limited
from hf_untangle.data.batches import token_blocks
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.select import random_like
from hf_untangle.statistics import checkpoint
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import collect, read_by_all
from hf_untangle.statistics.moments import MomentAccumulator
from hf_untangle.statistics.saliency import collect_saliency

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model("llama")


@pytest.fixture(scope="module")
def many(blocks_of):
    """Forty blocks of twelve random tokens."""
    return blocks_of(torch.randint(256, (40, 12), generator=torch.Generator().manual_seed(2)))


@pytest.fixture
def small_memory(monkeypatch):
    """Let memory run out when a sum of more tokens than this is taken, in the last group that runs."""

    def arrange(tokens: int, accumulator: type = MomentAccumulator) -> None:
        real, calls = accumulator.update, iter(range(1, 10_000))

        def update(self, activations: Tensor, neurons: slice = slice(None)) -> None:
            if next(calls) % 4 == 0 and len(activations) > tokens:
                raise torch.cuda.OutOfMemoryError(FULL)
            real(self, activations, neurons)

        monkeypatch.setattr(accumulator, "update", update)

    return arrange


def assert_same_bits(mine: ActivationStatistics, theirs: ActivationStatistics) -> None:
    assert list(mine) == list(theirs) and mine.corpora == theirs.corpora
    for name, moments in mine.items():
        for field, value in moments.tensors().items():
            assert torch.equal(value, theirs[name].tensors()[field]), (name, field)


def sizes_of(batches: Batches, work=lambda batch: None) -> list[int]:
    return [len(batch.counted) for batch in batches.run(work)]


def full_above(size: int):
    def work(batch) -> None:
        if len(batch.counted) > size:
            raise torch.cuda.OutOfMemoryError(FULL)

    return work


def test_a_walk_goes_over_every_block_once(many):
    assert sizes_of(Batches(many, 16)) == [16, 16, 8]
    assert torch.equal(torch.cat([batch.input_ids for batch in Batches(many, 7).run(len_of)]), many.input_ids)


def len_of(batch) -> None:
    len(batch.counted)


def test_auto_begins_with_4096_positions_and_at_most_64_blocks():
    assert [first_size("auto", width) for width in (1, 128, 256, 4096, 10_000)] == [64, 32, 16, 1, 1]
    assert first_size(5, 256) == 5


def test_auto_halves_until_a_batch_fits_and_says_so_once(many, caplog):
    with caplog.at_level(logging.WARNING, logger="hf_untangle"):
        assert sizes_of(Batches(many, "auto"), full_above(10)) == [8] * 5
    assert [record.message for record in caplog.records] == ["64 blocks in a batch did not fit into memory; continuing with 8."]


def test_a_batch_size_that_was_asked_for_is_never_changed(many):
    with pytest.raises(torch.cuda.OutOfMemoryError):
        sizes_of(Batches(many, 20), full_above(10))


def test_other_errors_are_not_taken_for_a_lack_of_memory(many):
    def broken(_) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        sizes_of(Batches(many, "auto"), broken)


def test_processes_that_share_a_model_know_their_passes_beforehand_or_are_refused(many):
    assert list(Batches(many, 16).passes()) == [0, 1, 2]
    for batches in (Batches(many, "auto"), Batches(many, 4, max_seconds=1.0)):
        with pytest.raises(ConfigError, match="must run as many passes each, so neither time nor memory can say how many"):
            list(batches.passes())


def test_one_block_that_does_not_fit_is_an_error_that_says_what_to_do(many):
    with pytest.raises(ConfigError, match="not even one of 12 positions does. Read shorter blocks"):
        sizes_of(Batches(many, "auto"), full_above(0))


def test_a_batch_that_failed_halfway_is_not_counted_twice(model, many, small_memory):
    expected = collect(model, many, batch_size=16, progress=False)
    small_memory(16 * 12)
    assert_same_bits(collect(model, many, batch_size="auto", progress=False), expected)


def test_gradients_and_metrics_of_a_batch_that_failed_halfway_are_not_counted_twice(model, many, monkeypatch):
    groups = neuron_groups(model)
    gradients = collect_saliency(model, many, groups=groups, batch_size=16, progress=False)
    metrics = next_token_metrics(model, many, batch_size=16, progress=False)
    real = type(model).forward

    def forward(self, input_ids, *args, **kwargs):
        output = real(self, input_ids, *args, **kwargs)
        if len(input_ids) > 16 or input_ids.numel() > 16 * 12:
            raise torch.cuda.OutOfMemoryError(FULL)
        return output

    monkeypatch.setattr(type(model), "forward", forward)
    found = collect_saliency(model, many, groups=groups, batch_size="auto", progress=False)
    assert all(torch.equal(found[name].second, one.second) for name, one in gradients.items())
    assert next_token_metrics(model, many, batch_size="auto", progress=False) == metrics


def test_a_failed_batch_leaves_the_model_as_it_was(model, many, small_memory, untouched):
    small_memory(0)
    with untouched(model), pytest.raises(ConfigError, match="At least one block must fit"):
        collect(model, many, batch_size="auto", progress=False)


@pytest.mark.parametrize(("limit", "blocks"), [(1, 1), (12, 1), (35, 2), (36, 3), (10_000, 40)])
def test_a_limit_on_tokens_takes_the_first_whole_blocks(model, many, limit, blocks):
    assert torch.equal(limited(many, limit).input_ids, many.input_ids[:blocks])
    statistics = collect(model, many, max_tokens=limit, progress=False)
    assert statistics.tokens == 12 * blocks
    assert_same_bits(statistics, collect(model, many.first(blocks), progress=False))
    assert next_token_metrics(model, many, max_tokens=limit, progress=False).tokens == 11 * blocks


def test_a_limit_on_tokens_counts_no_padding(padded_blocks):
    assert len(limited(padded_blocks, 26).input_ids) == 3, "12 + 9 + 5"


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances by a second whenever it is read."""
    seconds = iter(range(10_000))
    monkeypatch.setattr(batch_sizes.time, "monotonic", lambda: next(seconds))


def test_a_limit_on_time_ends_with_the_blocks_read_until_then_and_the_record_says_which(model, many, clock):
    statistics = collect(model, many, batch_size=4, max_seconds=3.0, progress=False)
    assert_same_bits(statistics, collect(model, many.first(12), batch_size=4, progress=False))
    assert statistics.corpora[0]["blocks"] == 12


def test_a_limit_on_time_lets_one_batch_run_in_any_case(model, many, clock):
    assert collect(model, many, batch_size=4, max_seconds=0.001, progress=False).tokens == 48
    assert next_token_metrics(model, many, batch_size=4, max_seconds=0.001, progress=False).tokens == 44


def test_processes_that_came_differently_far_record_the_blocks_of_each(many):
    assert read_by_all(many, [20, 20]) is many
    assert torch.equal(read_by_all(many, [2, 1, 0]).input_ids, many.input_ids[[0, 1, 3]])


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"batch_size": 0}, "at least one block, got batch_size=0"),
        ({"max_tokens": 0}, "At least one token must be read, got max_tokens=0"),
        ({"max_seconds": 0.0}, "must be above 0 seconds, got max_seconds=0.0"),
    ],
)
def test_limits_that_allow_nothing_are_errors(model, many, limits, message):
    with pytest.raises(ConfigError, match=message):
        collect(model, many, progress=False, **limits)


@pytest.fixture
def stopped(model, many, monkeypatch):
    """A collection that was stopped in its eighth batch of four blocks, with sums on disk of six batches."""
    with monkeypatch.context() as patch:
        real, calls = MomentAccumulator.update, iter(range(1, 10_000))

        def update(self, activations: Tensor, neurons: slice = slice(None)) -> None:
            if next(calls) == 4 * 7 + 3:
                raise KeyboardInterrupt
            real(self, activations, neurons)

        patch.setattr(MomentAccumulator, "update", update)
        with pytest.raises(KeyboardInterrupt):
            collect(model, many, **EVERY_EIGHT)


EVERY_EIGHT = {"batch_size": 4, "checkpoint_every": 8, "progress": False}


def batches_run(monkeypatch) -> list[int]:
    """How many blocks every pass of the model has from here on."""
    seen: list[int] = []
    real = batch_sizes.Batches._fits

    def fits(self, work, batch) -> bool:
        seen.append(len(batch.counted))
        return real(self, work, batch)

    monkeypatch.setattr(batch_sizes.Batches, "_fits", fits)
    return seen


def files(cache: Path) -> list[Path]:
    return list(cache.rglob("collections/*"))


def test_a_stopped_collection_goes_on_and_ends_with_the_same_bits(model, many, stopped, cache, monkeypatch):
    assert len(files(cache)) == 1
    seen = batches_run(monkeypatch)
    assert_same_bits(collect(model, many, **EVERY_EIGHT), collect(model, many, batch_size=4, progress=False))
    assert len(seen) == (1 + 4) + 10, "the first batch tells that it is the same model; six batches were on disk"
    assert not files(cache)


def other_mask(model, many):
    groups = neuron_groups(model)
    mask = random_like(NeuronMask.keep_all(groups, "").with_kept({g.name: torch.arange(g.size) > 1 for g in groups}), 0)
    with masked(model, mask):
        yield collect(model, many, **EVERY_EIGHT), collect(model, many, batch_size=4, progress=False)


def other_tokens(model, many):
    fewer = many.first(36)
    yield collect(model, fewer, **EVERY_EIGHT), collect(model, fewer, batch_size=4, progress=False)


def other_batches(model, many):
    how = EVERY_EIGHT | {"batch_size": 5}
    yield collect(model, many, **how), collect(model, many, batch_size=5, progress=False)


def other_sums(model, many):
    yield collect(model, many, roots=True, **EVERY_EIGHT), collect(model, many, roots=True, batch_size=4, progress=False)


@pytest.mark.parametrize("other", [other_mask, other_tokens, other_batches, other_sums])
def test_another_collection_does_not_go_on_from_this_one(model, many, stopped, cache, other):
    for found, expected in other(model, many):
        assert_same_bits(found, expected)
    assert len(files(cache)) == 1, "the sums of the stopped one stay for when it is called again"


def test_another_version_of_the_package_begins_anew(model, many, stopped, cache, monkeypatch):
    monkeypatch.setattr(checkpoint, "version", lambda _: "0.0.0")
    seen = batches_run(monkeypatch)
    collect(model, many, **EVERY_EIGHT)
    assert len(seen) == 10
    assert len(files(cache)) == 1


def test_other_weights_of_which_the_sums_know_nothing_begin_anew(tiny_model, many, stopped, monkeypatch):
    changed = tiny_model("llama")
    with torch.no_grad():
        changed.lm_head.weight[0, 0] += 1
    seen = batches_run(monkeypatch)
    collect(changed, many, **EVERY_EIGHT)
    assert len(seen) == 10


def test_a_cache_that_cannot_be_written_costs_no_collection(model, many, cache, caplog):
    expected = collect(model, many, **EVERY_EIGHT)
    shutil.rmtree(cache, ignore_errors=True)
    cache.write_text("a file instead of the folder")
    assert_same_bits(collect(model, many, **EVERY_EIGHT), expected)
    assert caplog.text.count("its sums cannot be written") == 1


def test_one_damaged_byte_of_the_sums_is_noticed(model, many, stopped, cache, caplog):
    content = bytearray(files(cache)[0].read_bytes())
    content[-3] ^= 1
    files(cache)[0].write_bytes(content)
    found = collect(model, many, **EVERY_EIGHT)
    assert "one that was damaged" in caplog.text
    assert_same_bits(found, collect(model, many, batch_size=4, progress=False))


def test_sums_that_cannot_be_read_are_left_aside(model, many, stopped, cache, caplog):
    files(cache)[0].write_text("half a file")
    found = collect(model, many, **EVERY_EIGHT)
    assert "cannot be read, so this one begins anew" in caplog.text
    assert_same_bits(found, collect(model, many, batch_size=4, progress=False))


def test_experts_go_on_with_the_tokens_that_each_of_them_saw(tiny_experts, many, monkeypatch, cache):
    expected = collect(tiny_experts, many, batch_size=4, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(batch_sizes.time, "monotonic", clock_that_stops_after(7))
        with pytest.raises(KeyboardInterrupt):
            collect(tiny_experts, many, max_seconds=1e9, **EVERY_EIGHT)
    assert len(files(cache)) == 1
    assert_same_bits(collect(tiny_experts, many, **EVERY_EIGHT), expected)


def clock_that_stops_after(reads: int):
    times = iter(range(reads))

    def read() -> int:
        for now in times:
            return now
        raise KeyboardInterrupt

    return read


@pytest.fixture(scope="module")
def tiny_experts():
    from conftest import GROUPED
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model("mixtral", **GROUPED, num_local_experts=4, num_experts_per_tok=2)
    return AutoModelForCausalLM.from_config(config).eval()


def test_the_bar_shows_tokens_a_second_and_the_time_left(model, many, capsys, monkeypatch):
    collect(model, many, batch_size=4)
    assert re.fullmatch(r"statistics of made: 480 tokens, [\d,]+ tokens/s\n", capsys.readouterr().err)
    monkeypatch.setattr("hf_untangle.progress.bars.SHOWN_LEFT", 0)
    with many.bar("statistics of", progress=True) as bar:
        bar.update(240)
        assert re.fullmatch(r"240/480 tokens, [\d,]+ tokens/s, a few seconds left", bar.line().details)


KILLED = """
import os, signal, sys, torch
from hf_untangle import models
from hf_untangle.data.batches import token_blocks
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.moments import MomentAccumulator
torch.set_num_threads(1)
model, tokenizer = models.load("toy")
calls, real = iter(range(10_000)), MomentAccumulator.update
def update(self, *args):
    if next(calls) == 4 * 9 + 1:
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, *args)
MomentAccumulator.update = update
blocks = token_blocks(sys.argv[1], tokenizer, tokens=1056, block_size=32)
collect(model, blocks, batch_size=2, checkpoint_every=4, progress=False)
"""


@pytest.mark.slow
def test_a_killed_process_is_followed_by_one_that_goes_on(taught, tokenizer, tmp_path, cache, monkeypatch):
    taught.save_pretrained(tmp_path / "toy")
    tokenizer.save_pretrained(tmp_path / "toy")
    (tmp_path / "numbers.txt").write_text("\n\n".join(NUMBERS))
    (tmp_path / "killed.py").write_text(KILLED)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "killed.py", "numbers.txt"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    monkeypatch.chdir(tmp_path)
    seen = batches_run(monkeypatch)
    blocks = token_blocks("numbers.txt", tokenizer, tokens=1056, block_size=BLOCK)
    found = collect(taught, blocks, batch_size=2, checkpoint_every=4, progress=False)
    assert len(seen) == 1 + 17 - 8
    assert_same_bits(found, collect(taught, blocks, batch_size=2, progress=False))


@pytest.mark.parametrize("every", [0, -1])
def test_a_checkpoint_is_written_every_positive_number_of_blocks(tiny_model, blocks, every):
    with pytest.raises(ConfigError, match=f"`checkpoint_every` must be a positive number of blocks, got {every}"):
        collect(tiny_model("llama"), blocks, checkpoint_every=every)
