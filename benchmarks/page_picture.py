"""The picture of the page in the README: a real result, in a real browser.

    hf-untangle demo && python benchmarks/page_picture.py out/demo docs/page.png

Serves the page of a result, lets both models continue the first prompt of its run, and takes a picture of all of it at a
width of 1,280 pixels. Needs the extra `app`, selenium, and the Debian packages chromium and chromium-driver.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

WIDTH, PATIENCE = 1280, 900
COLORS = 128
"""Of the picture, which keeps it small."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", help="a folder that unlearning wrote")
    parser.add_argument("picture", type=Path, help="the PNG file to write")
    parser.add_argument("--original", help="where the original model is, when the record does not find it")
    args = parser.parse_args()
    original = ["--original", args.original] if args.original else []
    with served(args.result, *original) as address, browser() as driver:
        driver.get(address)
        continue_prompt(driver)
        fit_window(driver)
        driver.save_screenshot(str(args.picture))
    Image.open(args.picture).convert("RGB").quantize(COLORS).save(args.picture, optimize=True)
    print(f"{args.picture}: {args.picture.stat().st_size / 1000:.0f} kB")


@contextmanager
def served(*words: str) -> Iterator[str]:
    command = [sys.executable, "-m", "hf_untangle", "show", *words, "--no-browser"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        addresses = (re.search(r"The page is at (http://127\.0\.0\.1:\d+/)", line) for line in process.stderr)
        try:
            yield next(found[1] for found in addresses if found)
        finally:
            process.terminate()


@contextmanager
def browser() -> Iterator[WebDriver]:
    options = Options()
    options.binary_location = str(shutil.which("chromium"))
    for switch in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(switch)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.set_window_size(WIDTH, 1000)
        yield driver
    finally:
        driver.quit()


def continue_prompt(driver: WebDriver) -> None:
    """Press the button, and wait until both models have written."""
    wait = WebDriverWait(driver, PATIENCE)
    wait.until(lambda here: here.find_elements("css selector", "#curve svg"))
    driver.find_element("css selector", "#continue").click()
    for name in ("before", "after"):
        written = f"return document.querySelector('#{name} textarea').value"
        wait.until(lambda here, written=written: here.execute_script(written))


def fit_window(driver: WebDriver) -> None:
    """Make the window as high as the page, with nothing in focus."""
    driver.execute_script("document.activeElement.blur()")
    height = driver.execute_script("return document.querySelector('gradio-app, body').scrollHeight")
    chrome = driver.execute_script("return window.outerHeight - window.innerHeight")
    driver.set_window_size(WIDTH, height + chrome)


if __name__ == "__main__":
    main()
