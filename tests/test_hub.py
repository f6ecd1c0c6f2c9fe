"""Results, masks and statistics go up to a Hub that speaks HTTP, and come down again."""

import json
import logging
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hub_server import READER, STORE, WRITER, Fault, HubServer, Repository
from huggingface_hub import ModelCard, constants
from records import a_mask, a_record, corpora, some_statistics
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import hf_untangle as untangle
from hf_untangle.cli.main import app
from hf_untangle.errors import HubError, MaskError
from hf_untangle.folders import LISTING, MARKER
from hf_untangle.hub.cards import license_of
from hf_untangle.hub.upload import push_folder
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.recipes.compact import Compaction
from hf_untangle.recipes.pipeline import Afterwards
from hf_untangle.recipes.push import PushTarget
from hf_untangle.results.unlearned import UnlearnResult
from hf_untangle.statistics.activation_statistics import ActivationStatistics

# huggingface_hub hands a file to httpx by a keyword that is going out of use.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

REPO = "me/masks"
RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture
def patience(monkeypatch):
    """Waiting between two attempts takes no time."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


@pytest.fixture
def mask() -> NeuronMask:
    return a_mask(a_record())


@pytest.fixture
def statistics() -> ActivationStatistics:
    read = corpora()["retain_train"] | {"origin": "hub", "source": "allenai/c4 (en, train)"}
    return ActivationStatistics(
        dict(some_statistics(a_record(), 1)), "gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e", "float32", (read,)
    )


def test_a_pushed_mask_is_read_back_both_as_a_mask_and_as_an_adapter(hub: HubServer, mask):
    assert mask.push_to_hub(REPO) == f"{hub.url}/{REPO}/commit/{'1':0>40}"
    pulled = NeuronMask.from_pretrained(REPO)
    assert pulled == mask == NeuronMask.from_adapter(REPO)
    assert (pulled.kinds, pulled.model) == (mask.kinds, mask.model)
    assert set(hub.repositories[REPO].files) == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "mask.safetensors",
        MARKER,
    }


def test_pushed_statistics_are_read_back_with_their_record(hub: HubServer, statistics):
    statistics.push_to_hub("me/sums")
    pulled = ActivationStatistics.from_pretrained("me/sums")
    assert all(torch.equal(moments.square, statistics[name].square) for name, moments in pulled.items())
    assert (pulled.model, pulled.revision, pulled.corpora) == (statistics.model, statistics.revision, statistics.corpora)


def test_the_card_of_statistics_names_the_model_the_text_and_its_license(hub: HubServer, statistics):
    statistics.push_to_hub("me/sums")
    card = ModelCard(hub.repositories["me/sums"].files["README.md"].decode())
    assert (card.data.base_model, card.data.datasets, card.data.library_name) == ("gpt2", ["allenai/c4"], "hf_untangle")
    assert 'from_pretrained("me/sums")' in card.text
    assert "| general | allenai/c4 (en, train) | Apache-2.0 | train | 32,768 |" in card.text


def test_a_folder_serves_in_the_place_of_a_repository(mask, statistics, tmp_path):
    mask.to_adapter(tmp_path / "adapter")
    statistics.save(tmp_path / "adapter" / "statistics-forget.safetensors")
    assert NeuronMask.from_pretrained(tmp_path / "adapter") == mask
    read = ActivationStatistics.from_pretrained(tmp_path / "adapter", filename="statistics-forget.safetensors")
    assert read.corpora == statistics.corpora
    with pytest.raises(MaskError, match="must hold a mask, got a file that cannot be opened"):
        NeuronMask.from_pretrained(tmp_path)


def test_an_older_revision_can_be_asked_for(hub: HubServer, mask):
    mask.push_to_hub(REPO)
    first = hub.repositories[REPO].sha
    nothing = mask.with_kept({name: torch.ones_like(kept) for name, kept in mask.items()})
    nothing.push_to_hub(REPO, commit_message="Keep everything")
    assert NeuronMask.from_pretrained(REPO) == nothing
    assert NeuronMask.from_pretrained(REPO, revision=first) == mask
    with pytest.raises(HubError, match=f"must be a branch, tag or commit of `{REPO}` .* none with that name .404."):
        NeuronMask.from_pretrained(REPO, revision="v9")


def test_a_private_repository_opens_to_a_token_alone(hub: HubServer, mask, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    mask.push_to_hub(REPO, private=True, token=WRITER)
    assert hub.repositories[REPO].private
    with pytest.raises(HubError, match=f"`{REPO}` must be on the Hub .* private and you may not see it .404.*log in"):
        NeuronMask.from_pretrained(REPO)
    assert NeuronMask.from_pretrained(REPO, token=READER) == mask


def test_a_pull_request_leaves_the_branch_to_its_owner(hub: HubServer, mask):
    assert mask.push_to_hub(REPO, create_pr=True) == f"{hub.url}/{REPO}/discussions/1"
    assert any("commit/main?create_pr=1" in path for _, path, _ in hub.requests)


def test_what_was_read_once_is_there_without_network(hub: HubServer, mask, monkeypatch):
    mask.push_to_hub(REPO)
    NeuronMask.from_pretrained(REPO)
    asked = len(hub.requests)
    assert NeuronMask.from_pretrained(REPO, local_files_only=True) == mask
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert NeuronMask.from_pretrained(REPO) == mask
    assert len(hub.requests) == asked
    with pytest.raises(HubError, match="reading mask.safetensors of me/other, but HF_HUB_OFFLINE forbids it"):
        NeuronMask.from_pretrained("me/other")
    with pytest.raises(HubError, match="needs the network or a copy in the cache, but neither is there"):
        NeuronMask.from_pretrained("me/other", local_files_only=True)


def test_a_download_that_is_cut_off_goes_on_where_it_was(hub: HubServer, mask, patience, monkeypatch):
    mask.push_to_hub(REPO)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50)  # what is written at once; 10 MB, as files are larger
    hub.faults.append(Fault("resolve", times=2, after=200))  # HEAD, which has no body to cut, and the first GET
    assert NeuronMask.from_pretrained(REPO) == mask
    ranges = [headers["range"] for method, _, headers in hub.requests if method == "GET" and "range" in headers]
    assert ranges == ["bytes=200-"]


def test_an_upload_that_is_cut_off_is_sent_again(hub: HubServer, mask, patience):
    hub.faults.append(Fault("upload", after=0))
    mask.push_to_hub(REPO)
    assert hub.count("PUT", "/lfs/") == 3
    assert NeuronMask.from_pretrained(REPO) == mask


def test_a_push_that_failed_goes_on_without_what_was_uploaded(hub: HubServer, mask, tmp_path):
    folder = mask.to_adapter(tmp_path / "adapter")
    hub.faults.append(Fault("commit", status=500))
    with pytest.raises(HubError, match="The Hub must answer for pushing to me/masks, but it failed: .*500"):
        push_folder(folder, REPO)
    assert (hub.count("PUT", "/lfs/"), hub.repositories[REPO].files) == (2, {})
    push_folder(folder, REPO)
    assert hub.count("PUT", "/lfs/") == 2
    assert NeuronMask.from_pretrained(REPO) == mask


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("hf_wrong", r"must know who you are for pushing to me/masks, but your token is missing or not valid \(401\). Log in"),
        (READER, r"token must be allowed to write for pushing to me/masks, but the Hub forbids it \(403\). Use a token with"),
    ],
)
def test_who_may_not_write_is_told_what_to_do(hub: HubServer, mask, token, message):
    with pytest.raises(HubError, match=message) as raised:
        mask.push_to_hub(REPO, token=token)
    assert token not in str(raised.value)
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("route", "status", "headers", "message"),
    [
        ("commit", 409, {}, r"Nobody else may write to `me/masks` during .* a conflicting commit \(409\). Run it again"),
        ("commit", 429, {"Retry-After": "7"}, r"so many requests, and asks to wait 7 seconds before pushing .* \(429\). Wait"),
        ("create", 429, {}, r"so many requests, and asks to wait before pushing to me/masks continues \(429\)"),
        ("commit", 403, {}, r"but the Hub forbids it \(403\)"),
        ("create", 503, {}, "The Hub must answer for pushing to me/masks, but it failed: .*503.* try again later"),
    ],
)
def test_every_refusal_of_a_push_is_a_sentence(hub: HubServer, mask, route, status, headers, message):
    hub.faults.append(Fault(route, status=status, headers=headers))
    with pytest.raises(HubError, match=message):
        mask.push_to_hub(REPO)


def test_a_rate_limit_that_does_not_end_is_a_sentence_too(hub: HubServer, mask, patience):
    hub.faults.append(Fault("upload", status=429, times=99, headers={"Retry-After": "3"}))
    with pytest.raises(HubError, match=r"asks to wait 3 seconds before pushing to me/masks continues \(429\)"):
        mask.push_to_hub(REPO)


def test_a_rate_limit_that_ends_is_waited_for(hub: HubServer, mask, patience):
    hub.faults.append(Fault("preupload", status=429, times=2, headers={"Retry-After": "3"}))
    mask.push_to_hub(REPO)
    assert NeuronMask.from_pretrained(REPO) == mask


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("me/nothing", r"`me/nothing` must be on the Hub for reading mask.safetensors of me/nothing, .* not there.*\(404\)"),
        (
            "me/sums",
            r"`me/sums` must hold the file for reading mask.safetensors .* no file of that name \(404\). Was it pushed",
        ),
        ("a/b/c", "`a/b/c` must be a folder that exists or a repository of the Hub, such as `user/name`"),
    ],
)
def test_what_is_not_there_is_said_to_be_missing(hub: HubServer, statistics, source, message):
    statistics.push_to_hub("me/sums")
    with pytest.raises(HubError, match=message):
        NeuronMask.from_pretrained(source)


def test_a_hub_that_does_not_answer_is_a_sentence(hub: HubServer, mask, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="The Hub must answer for pushing to me/masks, but it failed: .*Check the network"):
        mask.push_to_hub(REPO)


def test_a_folder_that_is_not_ours_is_not_pushed(hub: HubServer, tmp_path):
    (tmp_path / "secret.txt").write_text("mine")
    with pytest.raises(HubError, match=f"must be one that hf_untangle wrote, but it has no {MARKER}. Nothing was pushed"):
        push_folder(tmp_path, REPO)
    assert hub.requests == []


def test_the_file_that_undoes_a_removal_stays_here(hub: HubServer, mask, tmp_path):
    folder = mask.to_adapter(tmp_path / "out")
    (folder / "removed.safetensors").write_bytes(b"what was removed")
    push_folder(folder, REPO)
    assert "removed.safetensors" not in hub.repositories[REPO].files
    assert b"what was removed" not in b"".join(hub.large_files.values())


def test_the_token_is_in_no_file_no_log_and_no_card(hub: HubServer, mask, statistics, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    mask.push_to_hub(REPO, token=WRITER)
    statistics.push_to_hub("me/sums", token=WRITER)
    NeuronMask.from_pretrained(REPO, token=WRITER)
    assert any(WRITER in headers.get("authorization", "") for _, _, headers in hub.requests)
    assert all(
        f"hf_untangle/{untangle.__version__};" in headers["user-agent"] for _, path, headers in hub.requests if REPO in path
    )
    pushed = [content for one in hub.repositories.values() for content in one.files.values()]
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(pushed) == 8 and kept
    assert not any(WRITER.encode() in content for content in pushed + kept)
    said = capfd.readouterr()
    assert WRITER not in caplog.text + said.out + said.err


@pytest.fixture
def xet(hub: HubServer, monkeypatch) -> HubServer:
    """The same Hub for a client that sends large files in chunks, as it does where `hf_xet` is installed."""
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    return hub


@pytest.fixture
def noise(tmp_path) -> Path:
    """A folder of this package with a large file that cannot be compressed."""
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / MARKER).write_text("{}")
    (tmp_path / "noise" / "noise.safetensors").write_bytes(random.Random(0).randbytes(200_000))
    return tmp_path / "noise"


def test_large_files_go_up_in_chunks_and_the_token_does_not_go_with_them(xet: HubServer, noise):
    push_folder(noise, REPO)
    assert xet.repositories[REPO].files["noise.safetensors"] == (noise / "noise.safetensors").read_bytes()
    assert (xet.count("PUT", "/lfs/"), xet.count("POST", "/store/v1/xorbs/")) == (0, 1)
    tokens = {headers["authorization"] for _, path, headers in xet.requests if path.startswith("/store")}
    assert tokens == {f"Bearer {STORE}"}


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, r"must know who you are for pushing to me/masks, .* \(401\). Log in"),
        (403, r"but the Hub forbids it \(403\). Use a token with"),
        (404, r"must take large files in chunks for pushing to me/masks, .* \(404\). Set HF_HUB_DISABLE_XET=1 .* run it again"),
    ],
)
def test_a_refusal_of_chunks_is_a_sentence(xet: HubServer, noise, status, message):
    xet.faults.append(Fault("xet_token", status=status, times=9))
    with pytest.raises(HubError, match=message) as raised:
        push_folder(noise, REPO)
    assert WRITER not in str(raised.value)
    assert xet.repositories[REPO].files == {}


def test_the_license_of_a_model_on_the_hub_is_asked_for(hub: HubServer):
    hub.repositories["org/model"] = Repository(files={"README.md": b"---\nlicense: apache-2.0\n---\n"})
    hub.repositories["org/bare"] = Repository(files={"README.md": b"nothing"})
    assert license_of("org/model") == "apache-2.0"
    assert license_of("org/bare") is None
    assert license_of("org/missing") is None
    assert license_of("./folder") is None


@pytest.fixture
def result(unlearned, no_report) -> UnlearnResult:
    """A run whose removed weights were kept."""
    return unlearned


def test_a_result_is_pushed_whole_but_for_the_removed_weights(hub: HubServer, result, tmp_path):
    saved = {str(path.relative_to(tmp_path / "out")) for path in result.save_pretrained(tmp_path / "out").rglob("*")}
    result.push_to_hub("me/toy")
    pushed = hub.repositories["me/toy"].files
    assert set(pushed) == saved - {"removed.safetensors", LISTING}
    assert {"model.safetensors", "mask-path.safetensors", "mask.safetensors", "statistics-forget.safetensors", MARKER} <= set(
        pushed
    )
    assert NeuronMask.from_pretrained("me/toy") == result.mask
    statistics = ActivationStatistics.from_pretrained("me/toy", filename="statistics-forget.safetensors")
    assert statistics.corpora == result.forget.corpora


def test_a_job_that_compacts_pushes_the_smaller_checkpoint_with_all_that_belongs_to_the_result(
    hub: HubServer, result, tmp_path
):
    small, output = Compaction(output=str(tmp_path / "small"), layout="ragged", round_to=8), str(tmp_path / "out")
    job = Afterwards(output, "apache-2.0", None, None, None, small, PushTarget(repository="me/small"))
    _, came = job.carry_out(result, original="", progress=False)
    pulled = AutoModelForCausalLM.from_pretrained("me/small")
    assert pulled.num_parameters() == came["compacted"]["parameters_after"] < result.model.num_parameters()
    ids = torch.arange(24)[None]
    with torch.no_grad():
        assert torch.allclose(pulled(ids).logits, result.model(ids).logits, atol=1e-5)
    assert NeuronMask.from_pretrained("me/small") == result.mask
    files = hub.repositories["me/small"].files
    assert {"mask-path.safetensors", "statistics-forget.safetensors", "README.md", MARKER} <= set(files)
    assert "removed.safetensors" not in files and (tmp_path / "out" / "removed.safetensors").is_file()
    assert "once `hf_untangle` is imported, as its layers differ in width" in files["README.md"].decode()
    assert not any(str(tmp_path).encode() in content for content in files.values())


def test_a_ladder_is_pushed_with_the_license_that_the_hub_knows(hub: HubServer, result):
    hub.repositories["org/toy"] = Repository(files={"README.md": b"---\nlicense: apache-2.0\n---\n"})
    of_the_hub = replace(result, record=result.record.model_copy(update={"model": "org/toy"}))
    of_the_hub.push_adapters_to_hub("me/steps")
    files = hub.repositories["me/steps"].files
    assert {"README.md", MARKER, "step-01/adapter_config.json", "step-02/adapter_model.safetensors"} <= set(files)
    card = ModelCard(files["README.md"].decode())
    assert (card.data.base_model, card.data.license, card.data.library_name) == ("org/toy", "apache-2.0", "peft")
    assert card.data.to_dict()["base_model_relation"] == "adapter"


def test_the_command_pushes_a_folder_and_says_where_it_is(hub: HubServer, mask, tmp_path):
    folder = mask.to_adapter(tmp_path / "adapter")
    done = CliRunner().invoke(app, ["push", str(folder), REPO, "--private", "--message", "First", "--json"])
    assert (done.exit_code, json.loads(done.stdout)["commit"]) == (0, f"{hub.url}/{REPO}/commit/{'1':0>40}")
    assert hub.repositories[REPO].private
    refused = CliRunner().invoke(app, ["push", str(tmp_path), REPO])
    assert refused.exit_code == 3
    assert "must be one that hf_untangle wrote" in " ".join(refused.stderr.split())


def test_a_dry_run_of_a_push_lists_what_is_sent_and_sends_nothing(hub: HubServer, result, tmp_path, monkeypatch):
    folder = result.save_pretrained(tmp_path / "out")
    (folder / "elsewhere").symlink_to(tmp_path)
    command = ["push", str(folder), REPO]
    with monkeypatch.context() as patch:
        patch.delenv("HF_TOKEN")
        planned = CliRunner().invoke(app, [*command, "--dry-run", "--json"])
        shown = CliRunner().invoke(app, [*command, "--dry-run"])
    assert (planned.exit_code, shown.exit_code, hub.requests) == (0, 0, [])
    assert "Nothing was sent" in shown.stdout and "removed.safetensors, which can undo" in " ".join(shown.stdout.split())
    files = {one["file"]: one["bytes"] for one in json.loads(planned.stdout)["files"]}
    assert files == untangle.hub.pushed_files(folder)
    assert all(name in shown.stdout for name in files)
    assert CliRunner().invoke(app, command).exit_code == 0
    pushed = {name: len(content) for name, content in hub.repositories[REPO].files.items()}
    assert pushed == files and "removed.safetensors" not in files


def test_a_dry_run_of_a_push_refuses_what_a_push_refuses(hub: HubServer, tmp_path):
    refused = CliRunner().invoke(app, ["push", str(tmp_path), REPO, "--dry-run"])
    assert refused.exit_code == 3 and "must be one that hf_untangle wrote" in " ".join(refused.stderr.split())
    assert hub.requests == []


def test_the_recipe_pushes_what_the_demo_made(hub: HubServer, mask, tmp_path):
    folder = mask.to_adapter(tmp_path / "demo")
    overrides = ["--set", f"folder={folder}", "--set", "repository=me/demo"]
    done = CliRunner().invoke(app, ["run", str(RECIPES / "push" / "demo-to-the-hub.yaml"), *overrides])
    assert done.exit_code == 0
    assert f"Pushed: {hub.url}/me/demo/commit/" in done.stdout
    assert hub.repositories["me/demo"].private


LOAD = """
import sys
sys.modules["hf_untangle"] = None
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
checkpoint, base, adapter, file = sys.argv[1:]
ids = torch.arange(30)[None]
with torch.no_grad():
    logits = {"checkpoint": AutoModelForCausalLM.from_pretrained(checkpoint)(ids).logits}
    logits["peft"] = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)(ids).logits
    model = AutoModelForCausalLM.from_pretrained(base)
    model.load_adapter(adapter)
    logits["transformers"] = model(ids).logits
torch.save(logits, file)
"""


def test_a_process_without_this_package_loads_what_was_pushed(hub: HubServer, result, taught, tmp_path):
    taught.save_pretrained(tmp_path / "base")
    result.push_to_hub("me/toy")
    result.mask.push_to_hub(REPO)
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", LOAD, "me/toy", str(tmp_path / "base"), REPO, str(tmp_path / "logits.pt")]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=400)
    loaded = torch.load(tmp_path / "logits.pt")
    ids = torch.arange(30)[None]
    with torch.no_grad(), masked(taught, result.mask):
        expected = taught(ids).logits
        assert torch.equal(loaded["checkpoint"], result.model(ids).logits)
    assert torch.equal(loaded["peft"], expected)
    assert torch.equal(loaded["transformers"], expected)
