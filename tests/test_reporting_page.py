"""The page shows all of a record, and nothing else is needed to read it."""

import re
from html.parser import HTMLParser

import pytest
from records import a_mask, a_record, an_attack, corpora, outcome, reading, some_statistics

from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.records.unlearning import Comparison, Continuation
from hf_untangle.reporting.attack_plot import attack_figure
from hf_untangle.reporting.page import CAPTIONS, report_page
from hf_untangle.reporting.plots import removed_by_layer, trade_off
from hf_untangle.reporting.scatter import importance_scatter
from hf_untangle.reporting.style import PALETTE, inline_svg
from hf_untangle.reporting.table import summary

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Reader(HTMLParser):
    """Gathers text and attributes, and checks that every tag is closed in its turn."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.pieces, self.blocks = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "pre":
            self.blocks.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "pre":
            self.blocks[-1] += data
        self.pieces.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.pieces).split())


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def page():
    record = a_record(attacks=(an_attack(outcome("quantize", reading("unlearned", 0.2, "NF4", 2), findings=("a <b> c",))),))
    statistics = some_statistics(record, 1), some_statistics(record, 2)
    figures = {
        "trade_off": trade_off(record),
        "removed_by_layer": removed_by_layer(record),
        "importance_scatter": importance_scatter(record, *statistics, a_mask(record)),
        "attacks": attack_figure(record.attacks[0]),
    }
    return report_page(record, figures)


def test_the_page_needs_nothing_from_elsewhere(page):
    addresses = [value for _, name, value in read(page).attributes if name in ("src", "href", "xlink:href", "srcset")]
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in addresses)
    assert "<script" not in page
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_the_page_has_every_figure_with_its_caption(page):
    reader = read(page)
    assert page.count("<svg") == len(CAPTIONS)
    for caption in CAPTIONS.values():
        assert caption.text in reader.text
        assert ("svg", "aria-label", caption.heading) in reader.attributes


def test_a_figure_that_is_missing_is_left_out():
    assert "<svg" not in report_page(a_record(), {})


def test_the_page_begins_with_the_numbers_in_plain_words(page):
    text = read(page).text
    assert "SmolLM2-135M-Instruct without code" in text
    assert summary(a_record()) in text


def test_the_page_has_every_setting_and_marks_what_differs(page):
    for name, value in UnlearnConfig(seed=3).model_dump().items():
        assert f"<code>{name}</code></td><td><code>{value}</code>" in page
    assert page.count('<tr class="changed">') == 1
    assert '<tr class="changed"><td><code>seed</code>' in page


def test_the_page_has_all_that_was_read_and_where_it_ran(page):
    record, text = a_record(), read(page).text
    for corpus in record.corpora.values():
        for key in ("corpus", "source", "license", "fingerprint"):
            assert corpus[key] in text
    for fact in (record.model, record.revision, record.device, record.date, "4 min 12 s", "torch 2.13.0", "32,768"):
        assert fact in text


def test_the_page_says_what_it_does_not_show(page):
    text = read(page).text
    for phrase in (
        "not proof of erasure",
        "Relearning is possible, and what the attacks above brought back is a lower bound",
        "small: 8,192 tokens",
        "copied from the context",
    ):
        assert phrase in text


def test_without_a_control_the_page_says_so():
    test = a_record().test
    alone = Comparison(before=test.before, after=test.after, controls=())
    assert "No random mask of the same size was measured" in report_page(a_record(test=alone), {})


def test_texts_keep_their_white_space_and_are_no_markup():
    text = Continuation(prompt="\n\n  <script>a && b</script>\t", before="", after="  x\n    y\n")
    prompt, before, after = read(report_page(a_record(continuations=(text,)), {})).blocks
    # The first line break of each block is the one that browsers drop.
    assert (prompt, before, after) == tuple("\n" + part for part in (text.prompt, text.before, text.after))


def test_names_are_escaped():
    page = report_page(a_record(model="<i>m</i>", revision=None, corpora=corpora(forget="<u>&")), {})
    assert "<i>" not in page
    assert "<u>" not in page
    assert "&lt;u&gt;&amp;" in page


def test_without_prompts_there_is_no_heading_for_them():
    assert "In its own words" not in report_page(a_record(continuations=()), {})


def test_every_color_of_a_figure_follows_the_page():
    drawing = inline_svg(trade_off(a_record()), "a < b")
    assert not set(re.findall(r"#[0-9a-f]{6}\b", drawing))
    assert set(re.findall(r"var\(--(\w+)\)", drawing)) <= {color.name for color in PALETTE}
    assert drawing.startswith('<svg role="img" aria-label="a &lt; b"')
    assert 'width="' not in drawing.partition(">")[0]


def test_the_same_record_gives_the_same_page():
    first, second = (report_page(a_record(), {"trade_off": trade_off(a_record())}) for _ in range(2))
    assert first == second
