"""Which tokens drive a neuron, and the page that shows it."""

from xml.etree import ElementTree

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_untangle.errors import ConfigError, StatisticsError
from hf_untangle.translation.kan.block_page import feed_forward_page
from hf_untangle.translation.kan.convert import kan_layers_of, to_kan_
from hf_untangle.translation.kan.driving_tokens import driving_tokens, follow_neurons, neurons_on_texts

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "<b>looked</b>", "at", "dogs"]
TEXTS = ["the cat sat on the mat", "a cat and <b>looked</b> at dogs"]
LAYER = "model.decoder.layers.1.fc2"


def tokenizer() -> PreTrainedTokenizerFast:
    """Words as tokens, with a start token that is special."""
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<s>", "<unk>", *WORDS])}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", unk_token="<unk>")


def opt() -> OPTForCausalLM:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 64,
        "hidden_size": 16,
        "ffn_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    return to_kan_(OPTForCausalLM(OPTConfig(**sizes, max_position_embeddings=32, word_embed_proj_dim=16)))


def nodes_of(model: OPTForCausalLM) -> Tensor:
    return torch.cat([nodes for _, nodes in neurons_on_texts(model, tokenizer(), TEXTS, kan_layers_of(model)[LAYER])])


def test_special_tokens_do_not_count():
    model = opt()
    layer = kan_layers_of(model)[LAYER]
    lengths = [(len(ids), len(nodes)) for ids, nodes in neurons_on_texts(model, tokenizer(), TEXTS, layer)]
    assert lengths == [(6, 6), (6, 6)]


def test_a_text_is_cut_where_the_positions_of_the_model_end():
    model = opt()
    ((ids, nodes),) = neurons_on_texts(model, tokenizer(), [" ".join(TEXTS * 20)], kan_layers_of(model)[LAYER])
    assert len(ids) == len(nodes) == 31  # and one special token


def test_followed_neurons_are_those_of_the_layer():
    model = opt()
    followed = follow_neurons(model, tokenizer(), TEXTS, kan_layers_of(model)[LAYER], [3, 30])
    assert torch.equal(followed.nodes, nodes_of(model)[:, [3, 30]])
    assert [position for _, position in followed.places] == [*range(6), *range(6)]


def test_driving_tokens_are_the_most_active_ones():
    model = opt()
    layer = kan_layers_of(model)[LAYER]
    followed = follow_neurons(model, tokenizer(), TEXTS, layer, [3, 30])
    tokens = driving_tokens(followed, layer.activation, tokenizer(), count=4)
    expected = nodes_of(model)[:, 30].relu().topk(4).values
    assert [token.activation for token in tokens[30]] == pytest.approx(expected.tolist())


def test_a_driving_token_stands_in_its_text():
    model = opt()
    layer = kan_layers_of(model)[LAYER]
    followed = follow_neurons(model, tokenizer(), TEXTS[:1], layer, [5])
    for token in driving_tokens(followed, layer.activation, tokenizer(), count=99)[5]:
        assert f"{token.before} {token.token} {token.behind}".split() == TEXTS[0].split()


def test_the_page_is_well_formed_and_shows_every_neuron_with_its_tokens():
    page = feed_forward_page(opt(), tokenizer(), TEXTS, LAYER, edges=5, tokens=3)
    body = page[page.index("<body>") : page.index("</html>")].replace("<br>", "<br/>").replace("&phi;", "phi")
    sections = ElementTree.fromstring(body).findall("section")
    assert sections
    assert sum(len(section.findall(".//polyline")) for section in sections) == 5
    assert all(len(section.findall(".//li")) == 3 for section in sections)


def test_text_on_the_page_is_text():
    page = feed_forward_page(opt(), tokenizer(), TEXTS, LAYER)
    assert "&lt;b&gt;looked&lt;/b&gt;" in page
    assert "<b>looked</b>" not in page


def test_the_page_says_what_it_shows():
    page = feed_forward_page(opt(), tokenizer(), TEXTS, LAYER)
    assert f"<h1>{LAYER}</h1>" in page
    assert "ReLU with 32 neurons and 16 outputs, on 12 tokens" in page


def test_an_unknown_layer_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="'fc9' is no KAN layer of this model; it has model.decoder.layers.0.fc1"):
        feed_forward_page(opt(), tokenizer(), TEXTS, "fc9")


def test_of_an_encoder_decoder_the_encoder_is_shown():
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    model = to_kan_(T5ForConditionalGeneration(T5Config(**sizes)))
    wo = "block.0.layer.{}.DenseReluDense.wo"
    assert "ReLU with 32 neurons" in feed_forward_page(model, tokenizer(), TEXTS, "encoder." + wo.format(1))
    with pytest.raises(StatisticsError, match="A text of 7 tokens reached the layer 0 times"):
        feed_forward_page(model, tokenizer(), TEXTS, "decoder." + wo.format(2))
