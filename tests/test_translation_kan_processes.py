"""Two processes that share a corpus find the same as one."""

from pathlib import Path

import torch

PROCESS = """
import os
import torch
import torch.distributed as dist
from transformers import OPTConfig, OPTForCausalLM
from hf_untangle.translation.kan.convert import to_kan_
from hf_untangle.translation.kan.edge_statistics import collect_edge_statistics, combine_statistics

rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
torch.set_num_threads(1)
dist.init_process_group("gloo")
torch.manual_seed(0)
sizes = {"vocab_size": 64, "hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
model = to_kan_(OPTForCausalLM(OPTConfig(**sizes, max_position_embeddings=32, word_embed_proj_dim=16)))
batches = [{"input_ids": torch.randint(0, 64, (2, 16))} for _ in range(4)]
found = [None] * processes
dist.all_gather_object(found, collect_edge_statistics(model, batches[rank::processes]))
joined = {name: combine_statistics([part[name] for part in found]) for name in found[0]}
ids = torch.arange(1, 17)[None]
torch.save(model(ids).logits.detach(), f"logits{processes}.{rank}.pt")
parts = {name: (s.tokens, s.mean, s.mean_abs) for name, s in joined.items()}
torch.save(parts, f"{processes}.{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_find_the_same_as_one(forked, tmp_path: Path):
    (tmp_path / "process.py").write_text(PROCESS)
    for count in (1, 2):
        done = forked(tmp_path, "process.py", ranks=count)
        assert done.returncode == 0, done.stderr
    jobs = [(0, 1), (0, 2), (1, 2)]  # rank and number of processes
    alone, *together = (torch.load(tmp_path / f"{count}.{rank}.pt") for rank, count in jobs)
    logits = [torch.load(tmp_path / f"logits{count}.{rank}.pt") for rank, count in jobs]
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])
    for shared in together:
        for name, (tokens, mean, mean_abs) in alone.items():
            assert shared[name][0] == tokens == 4 * 2 * 16
            torch.testing.assert_close(shared[name][1:], (mean, mean_abs), rtol=1e-6, atol=1e-12)
