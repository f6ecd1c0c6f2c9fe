"""The page about a result: what stands behind it, and the page itself in a real browser."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from chat_templates import CHATML
from toy_languages import NUMBERS, TOY_CONFIG, WORDS
from typer.testing import CliRunner

import hf_untangle as untangle
from hf_untangle.app.strengths import Strengths, open_strengths
from hf_untangle.cli.main import app
from hf_untangle.errors import ArchitectureError, ConfigError, MaskError
from hf_untangle.evaluation.generation import continuations
from hf_untangle.folders import MARKER
from hf_untangle.masks.by_hooks import masked
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting.style import INK

PROMPTS = ["12 34", "the cat"]
needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (BROWSER and DRIVER and importlib.util.find_spec("selenium")),
    reason="the Debian packages chromium and chromium-driver, and selenium, are needed to look at the page",
)


@pytest.fixture(scope="module")
def saved(taught, tokenizer, tmp_path_factory) -> Path:
    """A result of two steps, beside the original that it names in its record."""
    folder = tmp_path_factory.mktemp("results")
    model = deepcopy(taught)
    model.name_or_path = str(folder / "toy")
    model.save_pretrained(folder / "toy")
    tokenizer.save_pretrained(folder / "toy")
    config = TOY_CONFIG.with_settings(steps=2, retain_budget=1.0, perplexity_budget=float("inf"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_untangle.results.unlearned.write_report", lambda *_, **__: None)
        result = untangle.unlearn(model, NUMBERS, WORDS, tokenizer=tokenizer, config=config, prompts=PROMPTS, progress=False)
        return result.save_pretrained(folder / "result")


@pytest.fixture(scope="module")
def strengths(saved) -> Strengths:
    return open_strengths(saved)


def test_strength_0_is_the_original(strengths):
    before, after = strengths.compare(0, "12 34", 12)
    assert before == after == continuations(strengths.original, strengths.tokenizer, ["12 34"], max_new_tokens=12)[0]


def test_a_strength_is_the_step_of_the_run(strengths):
    for step, mask in enumerate(strengths.masks, start=1):
        before, after = strengths.compare(step, "12 34", 12)
        with masked(strengths.original, mask):
            assert after == continuations(strengths.original, strengths.tokenizer, ["12 34"], max_new_tokens=12)[0]
        assert before == strengths.compare(0, "12 34", 12)[0]


def test_the_chosen_strength_says_what_the_run_wrote_down(strengths):
    chosen = strengths.record.history.chosen
    for text in strengths.record.continuations:
        assert strengths.compare(chosen, text.prompt, 40) == (text.before, text.after)


def test_an_empty_prompt_is_an_error(strengths):
    with pytest.raises(ConfigError, match="The prompt must have some text to continue from"):
        strengths.compare(1, " \n", 8)


@pytest.mark.parametrize("strength", [-1, 3])
def test_a_strength_that_is_no_step_is_an_error(strengths, strength):
    with pytest.raises(ConfigError, match=f"The strength must be 0 or the number of a step, up to 2, got {strength}"):
        strengths.compare(strength, "12 34", 8)


def test_a_prompt_that_is_too_long_is_an_error_before_anything_is_written(strengths, monkeypatch):
    monkeypatch.setattr("hf_untangle.app.strengths.continuations", None)
    places = strengths.original.config.max_position_embeddings
    with pytest.raises(ConfigError, match=f"must have at most {places - 8:,} tokens, got 500. Shorten it"):
        strengths.compare(1, "x" * 500, 8)
    with pytest.raises(ConfigError, match=f"must have at most {places - 8:,} tokens"):
        with_template(strengths).chat(1, ([], []), "x" * 500, 8)


def test_more_new_tokens_than_the_page_offers_are_never_written(strengths, monkeypatch):
    asked = []
    monkeypatch.setattr("hf_untangle.app.strengths.MOST_NEW_TOKENS", 6)
    monkeypatch.setattr(
        "hf_untangle.app.strengths.continuations", lambda *_, **how: asked.append(how["max_new_tokens"]) or ["text"]
    )
    strengths.compare(1, "12 34", 10**9)
    strengths.compare(1, "12 34", -3)
    assert asked == [6, 6, 1, 1]


def test_what_is_being_written_can_be_stopped(strengths):
    asked = []

    def stop_at_the_third_token() -> bool:
        asked.append(True)
        return len(asked) == 3

    text = continuations(strengths.original, strengths.tokenizer, ["12 34"], max_new_tokens=12, stop=stop_at_the_third_token)
    whole = continuations(strengths.original, strengths.tokenizer, ["12 34"], max_new_tokens=12)
    assert whole[0].startswith(text[0]) and len(asked) == 3 and len(text[0]) < len(whole[0])


def test_stop_ends_both_continuations_and_the_next_is_whole_again(strengths, monkeypatch):
    expected = strengths.compare(1, "12 34", 8)
    own = continuations

    def stopped_meanwhile(*arguments: Any, **how: Any) -> list[str]:
        strengths.stop()
        return own(*arguments, **how)

    with monkeypatch.context() as patch:
        patch.setattr("hf_untangle.app.strengths.continuations", stopped_meanwhile)
        before, after = strengths.compare(1, "12 34", 8)
    assert expected[0].startswith(before) and len(before) < len(expected[0])
    assert after == ""
    assert strengths.compare(1, "12 34", 8) == expected


def with_template(strengths: Strengths) -> Strengths:
    """The same with a tokenizer that has a chat template."""
    tokenizer = deepcopy(strengths.tokenizer)
    tokenizer.chat_template = CHATML
    return replace(strengths, tokenizer=tokenizer)


def test_a_chat_is_answered_turn_by_turn_by_both_models(strengths):
    chatting, empty = with_template(strengths), ([], [])
    first = chatting.chat(2, empty, "12 34", 8)
    assert empty == ([], [])
    text = "<|user|>12 34<eos><|assistant|>"
    (before, after), tokenizer = first, chatting.tokenizer
    assert [turn["role"] for turn in before] == ["user", "assistant"]
    assert before[1]["content"] == continuations(chatting.original, tokenizer, [text], max_new_tokens=8)[0]
    with masked(chatting.original, chatting.masks[1]):
        assert after[1]["content"] == continuations(chatting.original, tokenizer, [text], max_new_tokens=8)[0]
        more = text + after[1]["content"] + "<eos><|user|>56<eos><|assistant|>"
        answer = continuations(chatting.original, tokenizer, [more], max_new_tokens=8)[0]
    second = chatting.chat(2, first, "56", 8)
    assert [turn["content"] for turn in second[1]] == ["12 34", after[1]["content"], "56", answer]
    assert second[0][:2] == before


def test_without_a_template_there_is_no_chat(strengths):
    assert not strengths.can_chat and with_template(strengths).can_chat
    with pytest.raises(ConfigError, match="A chat needs a model with a chat template"):
        strengths.chat(1, ([], []), "12", 8)
    with pytest.raises(ConfigError, match="must have some text"):
        with_template(strengths).chat(1, ([], []), " ", 8)


def test_the_record_at_a_strength_counts_its_neurons(strengths):
    assert strengths.record_at(strengths.record.history.chosen) == strengths.record
    assert sum(group.removed for group in strengths.record_at(0).groups) == 0
    for step, mask in enumerate(strengths.masks, start=1):
        record = strengths.record_at(step)
        assert sum(group.removed for group in record.groups) == mask.removed()
        assert record.history.chosen == step


def test_another_folder_is_an_error(tmp_path):
    with pytest.raises(MaskError, match="The result must be a folder from `unlearn`"):
        open_strengths(tmp_path)


def test_an_original_that_is_nowhere_is_an_error(saved):
    with pytest.raises(ArchitectureError, match="`nowhere/at/all` must be a folder with a checkpoint"):
        open_strengths(saved, original="nowhere/at/all")


def test_another_size_of_the_original_is_an_error(saved, tiny_model, tokenizer, tmp_path):
    tiny_model("llama").save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(MaskError, match="mask"):
        open_strengths(saved, original=str(tmp_path / "other"))


def copy_with_ablation(saved: Path, folder: Path, ablation: str) -> Path:
    """The same result, as if its neurons had been held at other values."""
    shutil.copytree(saved, folder)
    record = UnlearnRecord.model_validate_json((folder / MARKER).read_text())
    changed = record.model_copy(update={"config": record.config.with_settings(ablation=ablation)})
    (folder / MARKER).write_text(changed.model_dump_json())
    return folder


def test_neurons_that_were_held_at_their_means_are_held_there(saved, tmp_path):
    result = copy_with_ablation(saved, tmp_path / "mean", "mean")
    constants = open_strengths(result, original=str(saved.parent / "toy")).constants
    assert constants is not None and all(values.any() for values in constants.values())


def test_a_run_whose_fill_is_not_in_the_folder_is_refused(saved, tmp_path):
    with pytest.raises(MaskError, match="A run with ablation=mode cannot be shown"):
        open_strengths(copy_with_ablation(saved, tmp_path / "mode", "mode"))


@needs_gradio
def test_the_command_refuses_a_folder_that_is_no_result(tmp_path):
    result = CliRunner().invoke(app, ["show", str(tmp_path)])
    assert (result.exit_code, "must be a folder from `unlearn`" in " ".join(result.stderr.split())) == (3, True)


@pytest.fixture(scope="module")
def address(saved, tokenizer):
    """The page, served by the command in a process of its own, as Gradio's warnings are not ours."""
    root, own = Path(__file__).parents[1], deepcopy(tokenizer)
    own.chat_template = CHATML
    own.save_pretrained(saved.parent / "toy")
    command = [sys.executable, "-m", "hf_untangle", "show", str(saved), "--no-browser"]
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) as served:
        assert served.stderr is not None
        said = []
        for line in served.stderr:
            said.append(line)
            if found := re.search(r"The page is at (http://127\.0\.0\.1:\d+/)", line):
                break
        else:
            raise AssertionError("".join(said))
        yield found[1]
        served.terminate()


@needs_gradio
@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1", 200), ("localhost", 200), ("rebound.example", 400), ("127.0.0.1.example", 400)]
)
def test_a_name_of_elsewhere_does_not_reach_the_page(address, host, status):
    place = urlsplit(address)
    for path in ("/", "/config", "/gradio_api/info"):
        connection = HTTPConnection("127.0.0.1", place.port, timeout=60)
        connection.request("GET", path, headers={"Host": f"{host}:{place.port}"})
        assert connection.getresponse().status == status
        connection.close()


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window, which may open nothing but this machine."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(BROWSER)
    for switch in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--window-size=1280,1500",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, address):
    """The page, freshly opened and laid out."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(address)
    wait = WebDriverWait(browser, 60)
    wait.until(lambda driver: driver.find_elements("css selector", "#curve svg"))
    return browser, wait


def text_of(browser, name: str) -> str:
    return browser.find_element("css selector", f"#{name} textarea").get_property("value")


def set_strength(browser, value: int) -> None:
    """Type a strength into the number beside the slider."""
    from selenium.webdriver.common.keys import Keys

    number = browser.find_element("css selector", "#strength input[type=number]")
    number.send_keys(Keys.CONTROL, "a")
    number.send_keys(str(value), Keys.TAB)


@needs_gradio
@needs_browser
def test_the_page_shows_both_continuations_side_by_side(page, strengths):
    browser, wait = page
    chosen = strengths.record.history.chosen
    assert text_of(browser, "prompt") == PROMPTS[0]
    expected = strengths.record.continuations[0]
    # What the run wrote down is there before anything is written anew.
    assert (text_of(browser, "before"), text_of(browser, "after")) == (expected.before, expected.after)
    assert "those that the run wrote down" in browser.find_element("id", "note").text
    browser.find_element("css selector", "#continue").click()
    wait.until(lambda driver: "Written now" in driver.find_element("id", "note").text)
    assert (text_of(browser, "before"), text_of(browser, "after")) == (expected.before, expected.after)
    assert f"Step {chosen} of {len(strengths.masks)}, the chosen one" in browser.find_element("id", "description").text
    left, right = (browser.find_element("id", name).rect for name in ("before", "after"))
    assert left["x"] < right["x"] and left["y"] == right["y"]


@needs_gradio
@needs_browser
def test_a_prompt_of_the_run_comes_with_what_was_written_down(page, strengths):
    browser, wait = page
    other = strengths.record.continuations[1]
    row = next(one for one in browser.find_elements("css selector", "#examples button") if other.prompt in one.text)
    row.click()
    wait.until(lambda driver: text_of(driver, "prompt") == other.prompt)
    wait.until(lambda driver: (text_of(driver, "before"), text_of(driver, "after")) == (other.before, other.after))


@needs_gradio
@needs_browser
def test_a_chat_goes_on_turn_by_turn(page):
    from selenium.webdriver.common.keys import Keys

    browser, wait = page
    browser.find_element("xpath", "//button[@role='tab'][contains(., 'Chat')]").click()
    wait.until(lambda driver: driver.find_element("css selector", "#message textarea").is_displayed())
    texts = ("12 34", "the cat")
    number = browser.find_element("css selector", "#length input[type=number]")
    number.send_keys(Keys.CONTROL, "a")
    number.send_keys("8", Keys.TAB)  # Both turns must fit into the few places that the toy model has.
    for turn, text in enumerate(texts, start=1):
        browser.find_element("css selector", "#message textarea").send_keys(text)
        browser.find_element("css selector", "#send").click()
        wait.until(lambda driver: text_of(driver, "message") == "")
        for side in ("chat-before", "chat-after"):
            said = browser.find_element("id", side).text
            assert all(one in said for one in texts[:turn])
    browser.find_element("css selector", "#anew").click()
    wait.until(lambda driver: texts[0] not in driver.find_element("id", "chat-after").text)


@needs_gradio
@needs_browser
@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_fits_the_screen_and_stacks_where_that_is_narrow(browser, address, width, mode):
    from selenium.webdriver.support.ui import WebDriverWait

    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(f"{address}?__theme={mode}")
        WebDriverWait(browser, 60).until(lambda driver: driver.find_elements("css selector", "#curve svg"))
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        for pair, narrow in ((("before", "after"), {390}), (("curve", "layers"), {390, 768})):
            left, right = (browser.find_element("id", name).rect for name in pair)
            assert right["x"] + right["width"] <= width
            stacked = right["y"] >= left["y"] + left["height"]
            assert stacked == (width in narrow) and (stacked or left["x"] + left["width"] <= right["x"])
        is_dark = "return document.querySelectorAll('.dark').length > 0"
        WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(is_dark) == (mode == "dark"))
        ink = browser.execute_script(
            "return getComputedStyle(document.querySelector('#curve .untangle')).getPropertyValue('--ink')"
        )
        assert ink == getattr(INK, mode)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@needs_gradio
@needs_browser
def test_moving_the_strength_redraws_curve_and_layers(page, strengths):
    browser, wait = page
    drawings = {
        name: browser.find_element("css selector", f"#{name} svg").get_attribute("innerHTML") for name in ("curve", "layers")
    }
    other = next(step for step in (1, 2) if step != strengths.record.history.chosen)
    set_strength(browser, other)
    wait.until(lambda driver: f"Step {other} of 2" in driver.find_element("id", "description").text)
    for name, drawing in drawings.items():
        wait.until(
            lambda driver, name=name, drawing=drawing: (
                driver.find_element("css selector", f"#{name} svg").get_attribute("innerHTML") != drawing
            )
        )
    set_strength(browser, 0)
    wait.until(lambda driver: "The original model" in driver.find_element("id", "description").text)


@needs_gradio
@needs_browser
def test_an_empty_prompt_is_explained_on_the_page(page):
    from selenium.webdriver.common.keys import Keys

    browser, wait = page
    prompt = browser.find_element("css selector", "#prompt textarea")
    prompt.send_keys(Keys.CONTROL, "a")
    prompt.send_keys(Keys.DELETE)
    browser.find_element("css selector", "#continue").click()
    wait.until(lambda driver: "must have some text" in driver.find_element("tag name", "body").text)


@needs_gradio
@needs_browser
def test_the_page_asks_no_other_machine_for_anything(page, address):
    browser, _ = page
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    elsewhere = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert any(url.startswith(address) for url in asked)
    assert elsewhere == []
