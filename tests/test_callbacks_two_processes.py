"""The callbacks and repair in Trainer runs of two processes, which see different batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trainers import examples
from two_processes import a_model

import hf_untangle
from hf_untangle.statistics.collect import collect

TESTS = Path(__file__).parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ranks(tokenizer, tmp_path_factory) -> list[dict]:
    """What both processes saw."""
    folder = tmp_path_factory.mktemp("processes")
    tokenizer.save_pretrained(folder / "tokenizer")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone"]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(Path(hf_untangle.__file__).parents[1])]),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    command = [*launch, str(TESTS / "two_processes.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


def test_removed_neurons_are_zero_after_every_step_in_both_processes(ranks):
    assert [each["held"]["zeros"] for each in ranks] == [[True, True]] * 2


def test_both_processes_end_with_the_same_weights(ranks):
    assert ranks[0]["held"]["weights"] == ranks[1]["held"]["weights"]


def test_scores_of_a_resumed_run_are_logged_once_a_step(ranks):
    assert [each["held"]["logged"] for each in ranks] == [[0, 2, 4]] * 2


def test_masks_evolve_alike_in_both_processes(ranks):
    one, other = (each["evolved"] for each in ranks)
    assert one == other
    assert len(one["logged"]) == 4
    kept = [bit for row in one["mask"].values() for bit in row]
    assert 0 < sum(kept) < len(kept)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_repair_in_two_processes_gives_both_the_same_model(ranks, method):
    one, other = (each[method] for each in ranks)
    assert one == other
    assert one["zero"]
    assert one["loss"][1] < one["loss"][0]


def test_statistics_are_those_of_all_tokens_of_both_processes(ranks, blocks_of):
    ids = torch.stack([row["input_ids"] for row in examples()])
    expected = collect(a_model(), blocks_of(ids), progress=False)
    for each in ranks:
        assert each["statistics"]["tokens"] == ids.numel()
        assert sum(each["statistics"]["logged"]) == ids.numel()
        for name, square in each["statistics"]["square"].items():
            torch.testing.assert_close(torch.tensor(square, dtype=torch.float64), expected[name].square, rtol=1e-5, atol=1e-6)
