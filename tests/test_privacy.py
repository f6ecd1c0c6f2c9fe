"""Nothing that is saved or pushed tells of the folders of this machine, and no name in it is taken for markup."""

from copy import deepcopy
from dataclasses import replace

import pytest
from hub_server import HubServer
from markdown_it import MarkdownIt
from records import a_record, corpora

from hf_untangle.compaction.folder_to_folder import remove_folder
from hf_untangle.files.names import public_name, public_text
from hf_untangle.hub.cards import as_markdown
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.records.attacks import AttackRecord
from hf_untangle.records.shareable import shareable
from hf_untangle.reporting.model_card import model_card
from hf_untangle.reporting.page import report_page

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

HOME = "/home/someone/secret work"
ODD = (
    "<img src=x onerror=alert(1)>",
    "[click](http://x.org)",
    "a | b",
    "*loud* `code`",
    "two\n\n# lines",
    "half \ud800 of one",
)


@pytest.fixture
def private(unlearned):
    """A result whose model and corpora were folders and files of somebody."""
    model, path = deepcopy(unlearned.model), f"{HOME}/model"
    model.name_or_path = model.config._name_or_path = path
    tokenizer = deepcopy(unlearned.tokenizer)
    tokenizer.name_or_path = path
    read = {
        use: one | {"origin": "file", "source": f"{HOME}/{use}.txt, {HOME}/b.csv (splits train)"}
        for use, one in unlearned.record.corpora.items()
    }
    record = unlearned.record.model_copy(update={"model": path, "revision": None, "corpora": read})
    mask = replace(unlearned.mask, model=path)
    statistics = replace(unlearned.forget, model=path, revision=None, corpora=(read["forget_train"],))
    return replace(
        unlearned,
        model=model,
        tokenizer=tokenizer,
        mask=mask,
        mask_path=tuple(replace(one, model=path) for one in unlearned.mask_path),
        record=record,
        forget=statistics,
        retain=statistics,
    )


def tells(content: bytes) -> bool:
    return any(part in content for part in (b"someone", b"secret work"))


def test_no_file_that_is_saved_or_pushed_names_a_folder_of_this_machine(hub: HubServer, private, tmp_path):
    private.save_pretrained(tmp_path / "out")
    private.save_adapters(tmp_path / "steps")
    remove_folder(tmp_path / "out", tmp_path / "removed", private.mask)
    private.push_to_hub("me/result")
    private.push_adapters_to_hub("me/steps")
    private.mask.push_to_hub("me/mask")
    private.forget.push_to_hub("me/statistics")
    files = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "hub-cache" not in path.parts}
    files |= {f"{repo}/{name}": content for repo, one in hub.repositories.items() for name, content in one.files.items()}
    assert len(files) > 40
    assert not [name for name, content in files.items() if tells(content) or str(tmp_path).encode() in content]
    assert NeuronMask.load(tmp_path / "out" / "mask.safetensors") == private.mask


def test_names_of_models_in_repairs_and_attacks_lose_their_folders():
    path = f"{HOME}/model"
    outcome = {"attack": "benign", "readings": (), "findings": (), "seconds": 1, "stopped": False, "error": f"no {path}"}
    attack = AttackRecord.model_validate(
        {
            "settings": {"neighbor": f"{HOME}/near.txt"},
            "original": path,
            "gold": path,
            "corpus": {"source": f"{HOME}/a.txt"},
            "base": (),
            "outcomes": (outcome,),
            "device": "cpu",
            "date": "2026-11-22",
            "seconds": 1,
        }
    )
    shared = shareable(a_record(model=path, attacks=(attack,)))
    assert not tells(shared.model_dump_json().encode())
    assert (shared.attacks[0].original, shared.attacks[0].corpus["source"]) == ("model", "a.txt")


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_text_in_a_card_and_in_a_page(name):
    record = a_record(model=name, revision=None, corpora=corpora(forget=name, retain=name, origin="strings"))
    card = model_card(record).content
    body = card.split("---", 2)[2]
    html = MarkdownIt("commonmark").enable("table").render(body)
    assert "<img src=x" not in html and 'href="http://x.org' not in html and "<em>loud" not in html
    assert "\n# lines" not in body
    card.encode("utf-8")
    page = report_page(record, {})
    assert "<img src=x" not in page
    page.encode("utf-8")


def test_an_ordinary_name_stays_as_it_is():
    for name in ("HuggingFaceTB/SmolLM2-135M-Instruct", "wmdp-bio-forget", "my_corpus.txt", "allenai/c4 (en)"):
        assert as_markdown(name) == name


def test_the_last_part_of_a_path_is_what_others_may_read():
    assert [public_name(name) for name in ("user/name", "/a/b c", "./x/y/", "C:\\Users\\me\\m", "gpt2")] == [
        *("user/name", "b c", "y", "m", "gpt2"),
    ]
    assert public_text("/a/b c.txt, /a/d.csv (splits x)") == "b c.txt, d.csv (splits x)"
    assert public_text("see https://x.org/a/b and 1/2") == "see https://x.org/a/b and 1/2"
