"""The benchmark of a text classifier, on a tiny encoder."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from toy_languages import NUMBERS, WORDS
from transformers import AutoConfig, AutoModel

from hf_untangle.data.batches import token_blocks

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "encoder.py"


@pytest.fixture(scope="module")
def encoder():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("encoder_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["encoder_benchmark"] = module
    spec.loader.exec_module(module)
    return module


def test_a_class_goes_before_the_others_and_a_new_head_tells_what_is_left(encoder, tokenizer, capsys):
    torch.manual_seed(0)
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 258}
    model = AutoModel.from_config(AutoConfig.for_model("bert", **settings)).eval()
    texts = {"numbers": NUMBERS, "words": WORDS, "mixed": [f"{one} {other}" for one, other in zip(NUMBERS, WORDS, strict=True)]}
    parts = {
        part: {name: token_blocks(one, tokenizer, tokens=2_048, part=part, block_size=32) for name, one in texts.items()}
        for part in ("train", "validation", "test")
    }
    classifier = encoder.Classifier(model, encoder.trained_head(model, parts["train"]), tuple(texts))
    before = classifier.recalls(parts["test"])
    assert before["numbers"] > 0.9 and before["words"] > 0.9
    state = {name: value.clone() for name, value in model.state_dict().items()}
    step, mask = encoder.forgetting_mask(classifier, parts, "numbers")
    with encoder.masked(model, mask):
        after = classifier.recalls(parts["validation"])
    before = classifier.recalls(parts["validation"])
    kept = (sum(one[name] for name in ("words", "mixed")) for one in (after, before))
    assert after["numbers"] <= before["numbers"] and next(kept) >= 0.95 * next(kept)
    assert (step == 0) == all(kept.all() for kept in mask.values())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    encoder.print_table(classifier, parts, mask)
    assert "| masked, probe |" in capsys.readouterr().out
