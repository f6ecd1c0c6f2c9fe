"""Several processes find what one finds, and end together."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from forked import COMMAND

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compensation.refit import least_squares
from hf_untangle.data.batches import token_blocks
from hf_untangle.distributed import in_main, place, together
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.saliency import collect_saliency

ROOT = Path(__file__).parents[1]
TOKENS = 544
"""17 blocks of 32 tokens, which neither two nor four processes can share evenly."""
UNLEARN = """
task: unlearn
model: toy
forget: numbers.jsonl
retain: words.jsonl
settings: {tokens: 1056, evaluation_tokens: 544, block_size: 32, batch_size: 4, ffn_fraction: 0.1, steps: 2, controls: 0}
prompts: []
output: OUTPUT
"""


@pytest.fixture(params=["forked", pytest.param("torchrun", marks=pytest.mark.slow)])
def launch(request, forked, project):
    """Run the command line or a script in so many processes, inside the project."""

    def forks(processes: int, *words: str) -> subprocess.CompletedProcess[str]:
        return forked(project, *words, ranks=processes)

    return forks if request.param == "forked" else partial(torchrun, project)


def torchrun(folder: Path, processes: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line or a script as users do."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    what = ["-m", "hf_untangle", *words[1:]] if words[0] == COMMAND else words
    return subprocess.run([*launcher, *what], cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


def test_one_process_has_the_first_place_and_all_blocks(blocks):
    assert place() == (0, 1)
    assert torch.equal(blocks.mine().input_ids, blocks.input_ids)
    assert together(lambda: 3) == [3]


def test_work_of_the_main_process_is_done_by_the_only_one():
    done = []
    in_main(lambda: done.append(1))
    assert done == [1]


@pytest.mark.parametrize(("count", "shares"), [(2, [3, 3]), (4, [2, 2, 1, 1]), (8, [1, 1, 1, 1, 1, 1, 0, 0])])
def test_processes_share_blocks_without_gaps_or_duplicates(blocks, monkeypatch, count, shares):
    found = []
    for number in range(count):
        monkeypatch.setattr("hf_untangle.data.tokens.place", lambda number=number: (number, count))
        found.append(blocks.mine())
    assert [len(part.input_ids) for part in found] == shares
    together_again = torch.cat([part.input_ids for part in found])
    assert sorted(together_again.tolist()) == sorted(blocks.input_ids.tolist())


MEASURE = """
import sys, torch
from hf_untangle import distributed, models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.data.batches import token_blocks
from hf_untangle.compensation import least_squares
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks import NeuronMask
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.saliency import collect_saliency
torch.set_num_threads(1)
model, tokenizer = models.load("toy")
blocks = token_blocks("numbers.jsonl", tokenizer, tokens=544, block_size=32)
statistics = collect(model, blocks, batch_size=4, progress=False)
saliency = collect_saliency(model, blocks, groups=neuron_groups(model), progress=False)
metrics = next_token_metrics(model, blocks, batch_size=4, progress=False)
groups = neuron_groups(model)
mask = NeuronMask.keep_all(groups, "toy").with_kept({one.name: torch.arange(one.size) % 2 > 0 for one in groups})
refit = least_squares(model, mask, groups, blocks, batch_size=4, progress=False)
number = distributed.place()[0]
statistics.save(f"{sys.argv[1]}-{number}.safetensors")
torch.save({"metrics": metrics.record(), "saliency": {name: one.second for name, one in saliency.items()},
            "refit": (refit.weights, refit.ridges, refit.tokens)},
           f"{sys.argv[1]}-{number}.pt")
"""


@pytest.mark.parametrize("processes", [2, 4])
def test_statistics_gradients_refits_and_metrics_are_those_of_one_process(
    launch, project, taught, tokenizer, tmp_path, processes
):
    script = tmp_path / "measure.py"
    script.write_text(MEASURE)
    done = launch(processes, str(script), str(tmp_path / "found"))
    assert done.returncode == 0, done.stderr
    blocks = token_blocks(str(project / "numbers.jsonl"), tokenizer, tokens=TOKENS, block_size=32)
    alone = collect(taught, blocks, batch_size=4, progress=False)
    gradients = collect_saliency(taught, blocks, groups=neuron_groups(taught), progress=False)
    metrics = next_token_metrics(taught, blocks, batch_size=4, progress=False)
    groups = neuron_groups(taught)
    mask = NeuronMask.keep_all(groups, "toy").with_kept({one.name: torch.arange(one.size) % 2 > 0 for one in groups})
    refit = least_squares(taught, mask, groups, blocks, batch_size=4, progress=False)
    for number in range(processes):
        statistics = ActivationStatistics.load(tmp_path / f"found-{number}.safetensors")
        assert statistics.tokens == TOKENS
        for name, moments in alone.items():
            assert statistics[name].count == moments.count
            torch.testing.assert_close(statistics[name].square, moments.square, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(statistics[name].total, moments.total, rtol=1e-5, atol=1e-4)
        found = torch.load(tmp_path / f"found-{number}.pt")
        assert found["metrics"]["tokens"] == metrics.tokens and found["metrics"]["top1"] == metrics.top1
        assert found["metrics"]["loss"] == pytest.approx(metrics.loss, rel=1e-6)
        weights, ridges, tokens = found["refit"]
        assert (ridges, tokens) == (refit.ridges, refit.tokens)
        for name, weight in refit.weights.items():
            torch.testing.assert_close(weights[name], weight, rtol=1e-3, atol=1e-5)
        for name, one in gradients.items():
            torch.testing.assert_close(found["saliency"][name], one.second, rtol=1e-4, atol=1e-9)


def test_one_two_and_four_processes_find_the_same_mask_and_one_of_them_writes(launch, project):
    masks = []
    for processes in (1, 2, 4):
        recipe = project / f"{processes}.yaml"
        recipe.write_text(UNLEARN.replace("OUTPUT", f"out-{processes}"))
        done = launch(processes, COMMAND, "run", str(recipe))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Saved in") == 1
        masks.append(NeuronMask.load(project / f"out-{processes}" / "mask.safetensors"))
    assert masks[0].removed() > 0
    assert masks[0] == masks[1] == masks[2]


FAILING = """
from hf_untangle import distributed
distributed.join()
def work():
    if distributed.place()[0] == 1:
        raise ValueError("the second disk is full")
    return 0
distributed.together(work)
print("continued")
"""


def test_a_failure_in_one_process_ends_all_with_its_message(tmp_path):
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    done = torchrun(tmp_path, 2, str(script))
    assert done.returncode != 0
    assert "continued" not in done.stdout
    assert "process 1 failed, so all end: ValueError: the second disk is full" in done.stderr
