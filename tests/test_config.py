"""Settings: every one is checked, and says what would be right."""

import math

import pytest

from hf_untangle.configs.unlearn import PRESETS, UnlearnConfig
from hf_untangle.errors import ConfigError
from hf_untangle.importance.scores import Epsilon
from hf_untangle.methods.settings import MethodConfig
from hf_untangle.methods.work import tokens_of, unlearning_work
from hf_untangle.progress import passes

DEFAULT = UnlearnConfig()
QUICKER = ("steps", "tokens", "gradient_tokens", "evaluation_tokens", "evaluation_doublings")


def test_settings_can_be_changed_without_changing_those_they_come_from():
    changed = DEFAULT.with_settings(steps=3, importance="abs")
    assert (changed.steps, changed.importance) == (3, "abs")
    assert UnlearnConfig() == DEFAULT
    assert changed.with_settings(steps=DEFAULT.steps, importance=DEFAULT.importance) == DEFAULT


def test_fractions_and_epsilons_come_by_kind():
    config = DEFAULT.with_settings(ffn_fraction=0.5, attention_fraction=0.25, ffn_eps=0.001, attention_eps="10%")
    assert config.fractions() == {"ffn": 0.5, "attention": 0.25}
    assert config.eps() == {"ffn": Epsilon(0.001, relative=False), "attention": Epsilon(0.1, relative=True)}


def test_one_kind_alone_may_be_pruned():
    assert DEFAULT.with_settings(attention_fraction=0).fractions()["attention"] == 0
    assert DEFAULT.with_settings(ffn_fraction=0).fractions()["ffn"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ffn_fraction": -0.1}, "^`ffn_fraction`: input should be greater than or equal to 0, got -0.1\\.$"),
        ({"ffn_fraction": 1.1}, "^`ffn_fraction`: input should be less than or equal to 1, got 1.1\\.$"),
        ({"attention_fraction": -1}, "^`attention_fraction`: input should be greater than or equal to 0, got -1\\.$"),
        ({"ffn_fraction": 0, "attention_fraction": 0}, "must be above 0, got 0 for both: nothing would be removed"),
        ({"ffn_fraction": math.nan}, "^`ffn_fraction`: input should be .* got nan\\.$"),
        ({"ffn_fraction": "much"}, "^`ffn_fraction`: input should be a valid number.* got 'much'\\.$"),
        ({"steps": 0}, "`steps`: input should be greater than or equal to 1"),
        ({"tokens": 0}, "`tokens`: input should be greater than or equal to 1"),
        ({"block_size": 1}, "`block_size`: input should be greater than or equal to 2"),
        ({"batch_size": 0}, "`batch_size`: must be a whole number of at least 1, or `auto`, got 0"),
        ({"veto": 1}, "`veto`: input should be less than 1"),
        ({"retain_budget": -0.1}, "`retain_budget`: input should be greater than or equal to 0"),
        ({"perplexity_budget": 0.9}, "`perplexity_budget`: input should be greater than or equal to 1"),
        ({"forget_target": 0}, "`forget_target`: input should be greater than 0"),
        ({"importance": "asb"}, "^`importance`: must be one of abs, rms, .* got `asb` .did you mean `abs`..\\.$"),
        ({"score": "difference!"}, "^`score`: must be one of ratio, .* .did you mean `difference`..\\.$"),
        ({"head_score": "mode"}, "^`head_score`: must be one of mean, median, max, got `mode`"),
        ({"scope": "row"}, "^`scope`: input should be 'global', 'layer' or 'head', got 'row'\\.$"),
        ({"ffn_eps": "tiny"}, "^`ffn_eps`: eps must be a number .* got `tiny`\\.$"),
        ({"ffn_fractoin": 0.1}, "^There is no setting `ffn_fractoin` .did you mean `ffn_fraction`..\\.$"),
        ({"qqq": 1}, "^There is no setting `qqq`\\.$"),
    ],
)
def test_a_setting_out_of_range_or_unknown_is_an_error(settings, message):
    with pytest.raises(ConfigError, match=message):
        DEFAULT.with_settings(**settings)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_nothing_out_of_range(name):
    assert PRESETS[name].with_settings() == PRESETS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    text = PRESETS[name].model_dump_json()
    assert UnlearnConfig.model_validate_json(text) == PRESETS[name]


def test_a_first_look_is_an_eighth_of_the_work():
    work = {
        name: passes(unlearning_work(["prune"], PRESETS[name], MethodConfig(), tokens_of(PRESETS[name])))
        for name in ("default", "quick")
    }
    assert work["quick"] < work["default"] / 8
    same = PRESETS["quick"].with_settings(**{name: getattr(DEFAULT, name) for name in QUICKER})
    assert same == DEFAULT, "only how much is read and how often differs"
