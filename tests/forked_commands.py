"""Run commands in processes of their own, each forked from one that has imported everything: a process a command, but no wait.

It reads one job a line, as JSON: the words of the command, its folder, and the files that standard output and standard error
lead to. It answers with the exit code.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn


def carry_out(job: dict[str, Any]) -> NoReturn:
    """Be the command line, from its file descriptors on, and end."""
    code: Any = 1
    try:
        os.chdir(job["folder"])
        for descriptor, file in ((1, job["stdout"]), (2, job["stderr"])):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
        sys.argv = ["hf-untangle", *job["words"]]
        from hf_untangle.cli.main import main

        main()
    except SystemExit as end:
        code = end.code
    except BaseException:  # An interpreter prints it and ends with 1, and so does this.
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def serve() -> None:
    """Do the jobs that come, one after another."""
    import hf_untangle.cli.main
    import hf_untangle.recipes.schema
    import hf_untangle.survey.survey  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if not child:
            carry_out(json.loads(line))
        sys.__stdout__.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    serve()
