"""The report in a real browser: as wide as the screen, with forget and retain in sight, light and dark."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from records import a_mask, a_record, some_statistics

from hf_untangle.reporting.report import write_report
from hf_untangle.reporting.style import PAGE

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER and importlib.util.find_spec("selenium")),
    reason="the Debian packages chromium and chromium-driver, and selenium, are needed to look at the page",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder, record = tmp_path_factory.mktemp("report"), a_record()
    write_report(folder, record, some_statistics(record, 1), some_statistics(record, 2), a_mask(record))
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(BROWSER)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_report_fits_the_screen_and_shows_forget_and_retain(browser, report, width, mode):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": mode}]})
    browser.get(report.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    cells = browser.execute_script(
        "return [...document.querySelectorAll('table.comparison tr.result td')].map(cell => {"
        "const box = cell.getBoundingClientRect();"
        "return [cell.innerText, box.width, box.right, getComputedStyle(cell).fontSize]})"
    )
    for number in (0, 1, 4, 5):  # Top-1 and its drop, of forget and of retain.
        text, wide, right, size_of_text = cells[number]
        assert "%" in text and wide > 20 and right <= width and float(size_of_text[:-2]) >= 12
    # Text in figures is read as it is: 9 points of a drawing 504 points wide.
    scales = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].map("
        "one => one.getBoundingClientRect().width / one.viewBox.baseVal.width)"
    )
    assert scales and min(scales) * 9 >= 9
    red, green, blue = (int(getattr(PAGE, mode)[at : at + 2], 16) for at in (1, 3, 5))
    shown = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert shown == f"rgb({red}, {green}, {blue})"
