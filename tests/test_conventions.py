"""What the Hub, its command line and coding agents look for is where they look for it."""

import os
import re
import stat
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import yaml
from huggingface_hub import parse_eval_result_entries
from huggingface_hub.cli.extensions import ExtensionManifest
from records import a_mask, a_record, some_statistics

from hf_untangle.reporting.report import write_report

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def report_of(tmp_path: Path, **corpora: str) -> Path:
    """Write the report of a run that read some of its corpora from the Hub."""
    record = a_record()
    read = {name: dict(corpus) for name, corpus in record.corpora.items()}
    for use, source in corpora.items():
        read[f"{use}_test"] |= {"origin": "hub", "source": source}
    record = record.model_copy(update={"corpora": read})
    write_report(tmp_path, record, some_statistics(record, 1), some_statistics(record, 2), a_mask(record))
    return tmp_path / ".eval_results" / "hf_untangle.yaml"


def test_accuracy_on_a_data_set_of_the_hub_is_an_evaluation_result(tmp_path):
    (entry,) = parse_eval_result_entries(yaml.safe_load(report_of(tmp_path, retain="allenai/c4 (en, train)").read_text()))
    assert (entry.dataset_id, entry.task_id, entry.date) == ("allenai/c4", "text-generation", a_record().date)
    assert entry.value == round(100 * a_record().final.retain.top1, 2)
    assert "to retain" in str(entry.notes)


def test_corpora_from_elsewhere_have_no_id_and_no_entry(tmp_path):
    assert not report_of(tmp_path).exists()


def test_hf_untangle_runs_as_an_extension_of_the_command_line_of_the_hub(tmp_path):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts["hf-untangle"].split(":")
    folder = tmp_path / ".local/share/hf/extensions/hf-untangle"
    folder.mkdir(parents=True)
    program = folder / "hf-untangle"
    program.write_text(f"#!{sys.executable}\nfrom {module} import {function}\n{function}()\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    about = {"owner": "me", "repo": "hf-untangle", "repo_id": "me/hf-untangle", "short_name": "untangle", "type": "python"}
    ExtensionManifest(**about, executable_path=str(program), installed_at=_now()).save(folder)
    where = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    call = [sys.executable, "-c", "from huggingface_hub.cli.hf import main; main()", "untangle", "--version"]
    done = subprocess.run(call, env=os.environ | where, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout.strip().count(".")) == (0, 2), done.stderr


def _now() -> datetime:

    return datetime.now(UTC)


def test_the_list_for_language_models_names_every_page_and_no_other():
    named = set(re.findall(r"\]\(([^)]+)\)", (DOCS / "llms.txt").read_text(encoding="utf-8")))
    pages = {str(page.relative_to(DOCS)) for folder in ("how-to", "concepts", "papers") for page in DOCS.glob(f"{folder}/*.md")}
    assert named == pages | {"tutorial.md", "SKILL.md"}


def test_the_skill_has_a_name_and_says_when_to_use_it():
    _, front, text = (DOCS / "SKILL.md").read_text(encoding="utf-8").split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["name"] == "hf-untangle" and "Use when" in about["description"] and len(about["description"]) < 1024
    assert text.strip().startswith("# ")
