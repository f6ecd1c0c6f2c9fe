"""Forget and retain scores are logged in any Trainer run, so that relearning is seen as it happens."""

from copy import deepcopy

import pytest
from toy_languages import BLOCK, NUMBERS, WORDS
from trainers import a_trainer

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.callbacks.mask import MaskCallback
from hf_untangle.callbacks.unlearn_evaluation import UnlearnEvaluationCallback
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batches import token_blocks
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.removal import remove_
from hf_untangle.pruning.step import read_pair

KEYS = {f"untangle/unlearn/{use}_{what}" for use in ("forget", "retain") for what in ("top1", "loss")}
SMALL = {"evaluation_tokens": 512, "block_size": BLOCK}


@pytest.fixture
def pruned(taught, finished):
    model = deepcopy(taught)
    return remove_(model, finished.mask, neuron_groups(model))


@pytest.fixture
def rows(tokenizer):
    """Numbers to relearn."""
    blocks = token_blocks(NUMBERS, tokenizer, tokens=4096, block_size=BLOCK)
    return [{"input_ids": row, "labels": row} for row in blocks.input_ids]


@pytest.fixture
def evaluated(tokenizer, tmp_path, rows):
    """A trainer with the callback on it, that teaches numbers."""

    def make(model, *, mask=None, every=2, **settings):
        trainer = a_trainer(model, tmp_path / "run", data=rows, **{"learning_rate": 1e-3} | settings)
        if mask is not None:
            trainer.add_callback(MaskCallback(trainer, mask))
        trainer.add_callback(UnlearnEvaluationCallback(trainer, NUMBERS, WORDS, every=every, tokenizer=tokenizer, **SMALL))
        return trainer

    return make


def logged(trainer) -> list[dict]:
    return [entry for entry in trainer.state.log_history if entry.keys() >= KEYS]


def test_scores_are_logged_before_every_few_steps_and_at_the_end(evaluated, pruned):
    trainer = evaluated(pruned, max_steps=5)
    trainer.train()
    assert [entry["step"] for entry in logged(trainer)] == [0, 2, 4, 5]


def test_the_scores_are_those_of_held_out_text(evaluated, pruned, tokenizer):
    trainer = evaluated(pruned, max_steps=2)
    trainer.train()
    held_out = read_pair(NUMBERS, WORDS, tokenizer, "validation", UnlearnConfig(**SMALL))
    for use, blocks in (("forget", held_out.forget), ("retain", held_out.retain)):
        metrics = next_token_metrics(pruned, blocks, progress=False)
        assert logged(trainer)[-1][f"untangle/unlearn/{use}_top1"] == metrics.top1
        assert logged(trainer)[-1][f"untangle/unlearn/{use}_loss"] == metrics.loss


def test_relearning_is_seen_as_it_happens(evaluated, pruned, finished):
    trainer = evaluated(pruned, mask=finished.mask, every=10, max_steps=30, gradient_accumulation_steps=2)
    trainer.train()
    losses = [entry["untangle/unlearn/forget_loss"] for entry in logged(trainer)]
    assert losses[-1] < losses[0] - 0.5


def test_training_goes_on_as_it_would_without_the_measurements(evaluated, pruned, tmp_path, rows):
    other = deepcopy(pruned)
    evaluated(pruned).train()
    a_trainer(other, tmp_path / "other", data=rows, learning_rate=1e-3).train()
    assert all(one.equal(two) for one, two in zip(pruned.parameters(), other.parameters(), strict=True))


def test_a_resumed_run_logs_every_step_once(evaluated, pruned):
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    evaluated(deepcopy(pruned), **saving).train()
    again = evaluated(pruned, **saving)
    again.train(resume_from_checkpoint=f"{again.args.output_dir}/checkpoint-2")
    assert [entry["step"] for entry in logged(again)] == [0, 2, 4]


def test_a_tokenizer_that_the_trainer_has_is_taken(pruned, tokenizer, tmp_path):
    trainer = a_trainer(pruned, tmp_path)
    trainer.processing_class = tokenizer
    UnlearnEvaluationCallback(trainer, NUMBERS, WORDS, **SMALL).on_train_begin(
        trainer.args, trainer.state, trainer.control, model=pruned
    )
    assert len(logged(trainer)) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"every": 0}, "`every` must be a number of optimizer steps, at least 1, got 0"),
        ({"blocksize": 4}, "There is no setting `blocksize` .did you mean `block_size`"),
    ],
)
def test_bad_settings_are_an_error_that_says_what_to_do(pruned, tokenizer, tmp_path, wrong, message):
    with pytest.raises(ConfigError, match=message):
        UnlearnEvaluationCallback(a_trainer(pruned, tmp_path), NUMBERS, WORDS, tokenizer=tokenizer, **wrong)
