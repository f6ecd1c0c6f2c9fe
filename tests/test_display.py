"""What this package returns shows itself: three lines at a prompt, the head of its report in a notebook."""

from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from public_classes import CLASSES, foreign
from records import a_record, an_attack, outcome, reading
from rich.table import Table
from toy_languages import SMALL, WORDS

import hf_untangle
from hf_untangle.attacks.report import AttackReport
from hf_untangle.data.facts.invented import Facts
from hf_untangle.data.image_classes import image_classes
from hf_untangle.data.images import image_blocks
from hf_untangle.data.masked_tokens import MaskedTokenBlocks
from hf_untangle.display import LINES, ROWS, WIDTH, fields_repr, first_screen, rows_table, short_repr, table_html, table_text
from hf_untangle.translation.three_layers.boxes import Box

untangle: Any = hf_untangle
HOSTILE = "<script>alert(1)</script>\x1b[2J[bold]"


class Balanced(HTMLParser):
    """Reads a page, and knows whether every element was closed, what was asked of elsewhere, and what a person reads."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += f"{data} "


def read(html: str) -> Balanced:
    page = Balanced()
    page.feed(html)
    page.close()
    assert not page.open
    return page


@pytest.fixture(scope="module")
def shown(taught, tokenizer, unlearned, pairs):
    """One of everything that a call returns, by its kind."""
    how = {"tokenizer": tokenizer, "progress": False}
    plan = untangle.plan(taught, WORDS, **how, **SMALL)
    groups = untangle.neuron_groups(taught)
    attack = an_attack(outcome("relearn", reading("unlearned", 0.3, "2 steps", 2), reading("original", 0.62, "2 steps", 2)))
    images = image_blocks(image_classes("digits:0,1"), lambda some: torch.zeros(len(some), 1, 8, 8), part="test", images=5)
    blocks, labels = pairs[0].forget, torch.full_like(pairs[0].forget.input_ids, -100)
    return {
        "result": unlearned,
        "prune result": untangle.prune(deepcopy(taught), plan, **how),
        "mask": unlearned.mask,
        "statistics": unlearned.forget,
        "plan": plan,
        "groups": groups,
        "group": groups[0],
        "blocks": blocks,
        "masked blocks": MaskedTokenBlocks(**vars(blocks), targets=labels),
        "images": images,
        "attacks": AttackReport(attack),
        "evaluation": untangle.evaluate(taught, WORDS, tokens=512, block_size=32, **how),
        "sweep": untangle.density.sweep(deepcopy(taught), lambda _: 0.5, tolerance="loss", grid=(0.1, 0.2), progress=False),
    }


KINDS = [
    *("result", "prune result", "mask", "statistics", "plan", "groups", "group"),
    *("blocks", "masked blocks", "images", "attacks", "evaluation", "sweep"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_repr_has_three_lines_at_most_and_begins_as_the_description_does(shown, kind):
    lines = repr(shown[kind]).splitlines()
    assert len(lines) <= LINES and max(map(len, lines)) <= WIDTH
    name, _, head = lines[0].partition(": ")
    assert name == type(shown[kind]).__name__
    assert head and shown[kind].describe().startswith(head.removesuffix("..."))


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_shows_the_head_of_the_report(shown, kind):
    page = read(shown[kind]._repr_html_())
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert ("table" in page.tags) == hasattr(shown[kind], "table")


@pytest.mark.parametrize(
    "kind", ["result", "prune result", "mask", "statistics", "plan", "groups", "attacks", "evaluation", "sweep"]
)
def test_a_table_has_rows_and_is_one_for_terminals(shown, kind):
    table = shown[kind].table()
    assert isinstance(table, Table) and table.row_count


def test_a_result_says_what_fell_what_went_and_what_was_done(unlearned):
    first, second, third = repr(unlearned).splitlines()
    assert "top-1 on strings (forget) fell by" in first
    assert "FFN neurons" in second and "attention neurons" in second
    assert third.startswith(f"step {unlearned.record.history.chosen} of {len(unlearned.record.history.steps)}, ")
    page = read(unlearned._repr_html_())
    assert "top-1 lost on strings (forget)" in page.text and "parameters removed" in page.text and "random mask" in page.text


def test_groups_are_a_tuple_that_says_what_is_in_it(taught):
    groups = untangle.neuron_groups(taught)
    assert issubclass(type(groups), tuple) and groups == tuple(groups)
    assert groups.describe() == "2 ffn groups of 512 neurons and 2 attention groups of 64 neurons in 2 layers"
    named = untangle.neuron_groups(taught, named={"model.layers.*.mlp.down_proj": "ffn"})
    assert named.describe() == "2 ffn groups of 512 neurons in 2 layers"


def test_names_of_others_are_text_and_command_nothing(unlearned):
    mask = replace(unlearned.mask, model=HOSTILE, kept={HOSTILE: torch.ones(4, dtype=torch.bool)}, kinds={HOSTILE: "ffn"})
    assert "\x1b" not in repr(mask) and "[bold]" in repr(mask)
    page = read(mask._repr_html_())
    assert "script" not in page.tags and page.text.count("<script>alert(1)</script>") == 2 and page.text.count("[bold]") == 2
    record = a_record(model=HOSTILE.replace("/", "-"))
    assert "script" not in read(replace(unlearned, record=record)._repr_html_()).tags


def test_a_long_line_and_a_long_table_are_cut_and_say_so():
    table = rows_table(("name", "number"), ((f"row {number}", f"{number}") for number in range(ROWS + 3)), caption="below")
    page = read(table_html(table))
    assert (
        f"row {ROWS - 1}" in page.text and f"row {ROWS}" not in page.text and "below; 3 more rows: see `table()`" in page.text
    )
    assert f"row {ROWS + 2}" in table_text(table) and "\x1b" not in table_text(table)


def test_a_first_screen_takes_several_tables():
    page = read(
        first_screen("title", "lead <b>", [("lost", "5 < 6")], [rows_table(("a",), [("1",)]), rows_table(("b",), [("2",)])])
    )
    assert page.text.split() == ["title", "lead", "<b>", "lost", "5", "<", "6", "a", "1", "b", "2"]


def test_blocks_are_a_sequence_of_blocks(padded_blocks):
    assert len(padded_blocks) == 6
    assert [len(one) for one in padded_blocks] == [1] * 6
    assert [one.width for one in padded_blocks] == [12, 9, 5, 2, 7, 12], "a block alone has no padding"
    assert (
        padded_blocks[-2].input_ids.tolist() == padded_blocks[4].input_ids.tolist() == [padded_blocks.input_ids[4, :7].tolist()]
    )
    assert torch.equal(padded_blocks[1:5:2].input_ids, padded_blocks.input_ids[[1, 3]][:, :9])
    with pytest.raises(IndexError):
        padded_blocks[6]


def test_parts_of_blocks_are_of_their_kind(shown):
    for kind in ("masked blocks", "images"):
        assert type(shown[kind][0]) is type(shown[kind][:2]) is type(shown[kind])
        assert len(shown[kind][:2]) == 2 and sum(one.tokens for one in shown[kind]) == shown[kind].tokens


def test_no_block_is_a_sequence_too(blocks):
    nothing = blocks[:0]
    assert (
        len(nothing) == 0 and list(nothing) == [] and nothing.tokens == 0 and repr(nothing).startswith("TokenBlocks: 0 blocks")
    )


def is_plain(kind: Any) -> bool:
    """Tell whether what an annotation allows is as long as a number or a name."""
    return (
        kind in (int, float, str, bool, type(None))
        or get_origin(kind) is Literal
        or bool(isinstance(kind, UnionType) and all(map(is_plain, get_args(kind))))
    )


@pytest.mark.parametrize("one", [one for one in CLASSES if is_dataclass(one)], ids=lambda one: one.__name__)
def test_no_dataclass_that_a_caller_meets_shows_the_numbers_of_its_tensors(one):
    short = one.__repr__ in (short_repr, fields_repr) or "__repr__" in foreign(one)
    written = not hasattr(one.__repr__, "__wrapped__")  # The repr that dataclasses generate is wrapped.
    assert short or written or all(is_plain(field.type) for field in fields(one))


def test_fields_are_shown_by_shape_and_length_in_few_characters():
    lower, upper = torch.zeros(7), torch.ones(7)
    assert repr(Box(lower, upper)) == "Box(lower=Tensor(7,), upper=Tensor(7,))"
    assert (
        repr(Facts(3, (), (), (), ()))
        == "Facts(seed=3, forget=tuple of 0, retain=tuple of 0, neighbors=tuple of 0, unseen=tuple of 0)"
    )
    long = untangle.corpus(["a text"], name="\x1b[2J" + "x" * 9_999)
    assert len(repr(long)) <= LINES * WIDTH and "\x1b" not in repr(long)
