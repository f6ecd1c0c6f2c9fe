"""Commands and scripts in processes of their own that need not wait for imports.

The server of multiprocessing imports everything once, and forks a process for each of them.
"""

import gc
import os
import runpy
import socket
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, get_context
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from hf_untangle.recipes.registry import JOBS

TESTS = Path(__file__).parent
PRELOADED = [*JOBS.values(), "hf_untangle.recipes.schema", "hf_untangle.survey.survey", "hf_untangle.cli.main", "callback_runs"]
COMMAND = "hf-untangle"
SECONDS = 300
"""After so long processes are ended."""


def start_server() -> None:
    """Let the server begin to import."""
    get_context("forkserver").set_forkserver_preload(PRELOADED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS.parent), str(TESTS)]))
        patch.setenv("HF_HUB_OFFLINE", "1")
        forkserver.ensure_running()


def run_forked(
    own: Path, folder: Path, *words: object, ranks: int = 0, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run `hf-untangle`, or a script, in one process, or in several that are told of each other as by torchrun.

    Args:
        own: A folder for what the processes say, and their cache.
        folder: Where they run.
        *words: The command line.
        ranks: How many processes a launcher would start; none is one process without a launcher.
        **environment: Further variables.
    """
    out, error = own / "stdout", own / "stderr"
    told = {"HF_UNTANGLE_CACHE": str(own / "cache"), "OMP_NUM_THREADS": "1", "COLUMNS": "80"} | environment
    for file in (out, error):
        file.write_bytes(b"")
    arguments = (folder, list(map(str, words)), out, error)
    make = get_context("forkserver").Process
    code = _code_of([make(target=_carry_out, args=(*arguments, told | place)) for place in _places(ranks)])
    return subprocess.CompletedProcess(words, code, out.read_text(encoding="utf-8"), error.read_text(encoding="utf-8"))


def _places(ranks: int) -> list[dict[str, str]]:
    """What a launcher tells each of its processes."""
    if not ranks:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "ACCELERATE_USE_CPU": "true"}
    meeting |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    return [meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def _code_of(processes: Sequence[ForkServerProcess]) -> int:
    """Run processes, and end all of them with the first that fails; its exit code."""
    for one in processes:
        one.start()
    running, code = list(processes), 0
    try:
        while running and not code:
            assert wait([one.sentinel for one in running], timeout=SECONDS), f"{len(running)} still run after {SECONDS} s"
            code = next((one.exitcode for one in running if one.exitcode), 0)
            running = [one for one in running if one.exitcode is None]
    finally:
        for one in processes:
            one.terminate()
            one.join()
            one.close()
    return code


def _carry_out(folder: Path, words: list[str], out: Path, error: Path, environment: Mapping[str, str]) -> None:
    """Be the command line or a script, from its file descriptors on."""
    gc.freeze()  # What is imported is no garbage.
    warnings.simplefilter("ignore")
    os.environ.update(environment)
    os.chdir(folder)
    for descriptor, file in ((1, out), (2, error)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), descriptor)
    sys.argv = words
    if words[0] == COMMAND:
        from hf_untangle.cli.main import main

        main()
    else:
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")
