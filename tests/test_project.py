"""The files around the package agree with it: versions, workflows, issue forms, and the length of the README."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def read(name: str):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def commands(workflow: dict) -> list[str]:
    """Every command that the jobs of a workflow run."""
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


def test_the_citation_names_the_version_and_license_of_the_package():
    citation = read("CITATION.cff")
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])


def test_every_supported_python_is_checked():
    tested = read(".github/workflows/check.yml")["jobs"]["check"]["strategy"]["matrix"]["python"]
    assert tested == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={tested[0]}"


@pytest.mark.parametrize("name", ["check", "nightly", "release"])
def test_what_a_workflow_makes_is_in_the_makefile(name):
    targets = [
        word for command in commands(read(f".github/workflows/{name}.yml")) for word in re.findall(r"make (\w+)", command)
    ]
    assert targets
    assert [target for target in targets if not re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)] == []


def test_a_release_is_published_without_a_stored_secret():
    release = read(".github/workflows/release.yml")
    assert release["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text()


def test_ci_runs_the_check_which_includes_the_tests():
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == "make check"
    assert re.search(r"^check: .*\btest\b", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda form: form.stem)
def test_an_issue_form_has_what_the_site_needs(form):
    content = yaml.safe_load(form.read_text())
    assert form.stem == "config" or {"name", "description", "body"} <= content.keys()


def test_the_readme_is_short_enough_to_be_read():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
