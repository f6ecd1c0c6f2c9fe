"""Looking at the regions of a model while it is trained, by hand and in a Trainer."""

import jaxtyping
import pytest
import torch
from torch import nn
from transformers import OPTConfig, OPTForCausalLM, Trainer, TrainingArguments

from hf_untangle.callbacks.translation import TranslationCallback
from hf_untangle.errors import ArgumentError, ConfigError, StatisticsError, TranslationError
from hf_untangle.translation.kan.convert import to_kan_
from hf_untangle.translation.training_watch import TrainingWatch

SIZES = {"vocab_size": 40, "hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def opt(dropout: float = 0.0) -> OPTForCausalLM:
    torch.manual_seed(0)
    return OPTForCausalLM(OPTConfig(**SIZES, max_position_embeddings=32, word_embed_proj_dim=16, dropout=dropout))


def ids(rows: int = 4) -> torch.Tensor:
    return torch.randint(3, 40, (rows, 12), generator=torch.Generator().manual_seed(1))


class Wrapped(nn.Module):
    """A multilayer perceptron that is called with a keyword."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


def two_bends(activation: nn.Module) -> Wrapped:
    """Neurons x and x - 1."""
    model = Wrapped(nn.Linear(1, 2), activation, nn.Linear(2, 1))
    with torch.no_grad():
        model.layers[0].weight.fill_(1.0)
        model.layers[0].bias.copy_(torch.tensor([0.0, -1.0]))
    return model


def test_a_line_with_two_bends_by_hand():
    model, points = two_bends(nn.ReLU()), torch.tensor([[-2.0], [-1.0], [0.5], [2.0]])
    watch = TrainingWatch({"x": points})
    first = watch.look(model)
    assert (first.regions, first.moved, first.churn, first.silent, first.kan_difference) == (3, 0, 0, 0, 0)
    with torch.no_grad():
        model.layers[0].bias.copy_(torch.tensor([1.5, -3.0]))  # bends at -1.5 and at 3
    second = watch.look(model)
    assert (second.regions, second.moved, second.churn, second.silent) == (2, 2 / 4, 2 / 8, 1 / 2)


def test_every_knot_of_an_activation_counts():
    points = torch.linspace(-2, 3, 11)[:, None]  # neurons x and x - 1, each bent at -1 and at 1: at -1, 0, 1 and 2
    assert TrainingWatch({"x": points}).look(two_bends(nn.Hardtanh())).regions == 5


def test_padding_does_not_count():
    model, tokens = opt(), ids()
    short = TrainingWatch({"input_ids": tokens[:, :6]}).look(model)
    mask = torch.ones_like(tokens)
    mask[:, 6:] = 0
    assert TrainingWatch({"input_ids": tokens, "attention_mask": mask}).look(model).regions == short.regions


def test_a_model_whose_blocks_are_kans_is_told_what_it_needs():
    with pytest.raises(TranslationError, match="No Linear, elementwise activation and Linear in a row"):
        TrainingWatch({"input_ids": ids()}).look(to_kan_(opt()))


def test_smooth_activations_have_no_regions():
    with pytest.raises(StatisticsError, match=r"this model has \['GELU'\] on \[4\] tokens"):
        TrainingWatch({"x": torch.randn(4, 1)}).look(two_bends(nn.GELU()))


def trained(tmp_path, steps: int = 6, watch: bool = True, **settings) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=steps,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        logging_steps=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        **settings,
    )
    data = [{"input_ids": row, "labels": row} for row in ids(24)]
    trainer = Trainer(opt(dropout=0.1), arguments, train_dataset=data)
    if watch:
        trainer.add_callback(TranslationCallback(trainer, {"input_ids": ids()}, every=3))
    trainer.train()
    return trainer


def looks(trainer: Trainer) -> list[dict]:
    """What was logged at each look."""
    return [
        {name.rpartition("/")[2]: value for name, value in entry.items()}
        for entry in trainer.state.log_history
        if "untangle/translation/regions" in entry
    ]


def test_training_with_it_is_training_without_it_to_the_last_bit(tmp_path):
    with_it, without = trained(tmp_path), trained(tmp_path, watch=False)
    states = (trainer.model.state_dict() for trainer in (with_it, without))
    assert all(torch.equal(*pair) for pair in zip(*(state.values() for state in states), strict=True))
    losses = [[entry["loss"] for entry in trainer.state.log_history if "loss" in entry] for trainer in (with_it, without)]
    assert losses[0] == losses[1] and len(losses[0]) == 3


def test_measures_are_logged_at_the_start_and_at_intervals(tmp_path):
    logs = looks(trained(tmp_path))
    assert [entry["step"] for entry in logs] == [0, 3, 6]
    assert logs[0]["churn"] == 0 < logs[1]["churn"] < logs[1]["moved"] <= 1
    assert all(entry["kan_difference"] == 0 and 1 <= entry["regions"] <= 48 for entry in logs)


def test_accumulated_gradients_count_as_one_step(tmp_path):
    logs = looks(trained(tmp_path, steps=3, gradient_accumulation_steps=2))
    assert [entry["step"] for entry in logs] == [0, 3]


def test_no_hook_and_no_mode_is_left_behind():
    model = opt().train()
    TrainingWatch({"input_ids": ids()}).look(model)
    assert all(module.training and not module._forward_hooks for module in model.modules())


def test_looks_must_be_some_steps_apart(tmp_path):
    trainer = Trainer(opt(), TrainingArguments(str(tmp_path), report_to=[], use_cpu=True))
    with pytest.raises(ConfigError, match="`every` must be a number of optimizer steps, at least 1, got 0"):
        TranslationCallback(trainer, {}, every=0)


def test_a_gated_model_is_refused_before_any_training(tiny_model, tmp_path):
    trainer = Trainer(tiny_model("llama"), TrainingArguments(str(tmp_path), report_to=[], use_cpu=True))
    with pytest.raises(TranslationError, match="its product with a gate"):
        TranslationCallback(trainer, {"input_ids": ids()})


def test_inputs_that_are_no_keywords_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ArgumentError, match="`inputs` of `TrainingWatch` must be a mapping, got a Tensor"):
        TrainingWatch(ids())  # pyright: ignore[reportArgumentType]
