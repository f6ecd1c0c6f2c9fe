"""The page about a result: what stands behind it, and the page itself in a real browser."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
from toy_languages import NUMBERS, TOY_CONFIG, WORDS
from typer.testing import CliRunner

import hf_untangle as untangle
from hf_untangle.app.strengths import Strengths, open_strengths
from hf_untangle.cli.main import app
from hf_untangle.errors import ArchitectureError, ConfigError, MaskError
from hf_untangle.evaluation.generation import continuations
from hf_untangle.folders import MARKER
from hf_untangle.masks.apply import masked
from hf_untangle.records.unlearning import UnlearnRecord

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
    assert (result.exit_code, "must be a folder that `unlearn` wrote" in " ".join(result.stderr.split())) == (3, True)


@pytest.fixture(scope="module")
def address(saved):
    """The page, served by the command in a process of its own, as Gradio's warnings are not ours."""
    root = Path(__file__).parents[1]
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
    browser.find_element("css selector", "#continue").click()
    expected = strengths.record.continuations[0]
    wait.until(lambda driver: text_of(driver, "after") == expected.after)
    assert text_of(browser, "before") == expected.before
    assert f"Step {chosen} of {len(strengths.masks)}, the chosen one" in browser.find_element("id", "description").text
    left, right = (browser.find_element("id", name).rect for name in ("before", "after"))
    assert left["x"] < right["x"] and left["y"] == right["y"]


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
