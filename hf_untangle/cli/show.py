"""The command that serves a page about a result: `show`."""

from typing import Annotated

import typer

from hf_untangle.cli.console import DeviceMapOption, QuietOption, RevisionOption, TrustOption, clear_errors, console


def show_command(
    result: Annotated[str, typer.Argument(help="The folder of a result of unlearning.")],
    original: Annotated[str | None, typer.Option(help="The original model, where the record does not find it.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Where to listen; a free port when left out.")] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    device_map: DeviceMapOption = None,
    revision: RevisionOption = None,
    trust_remote_code: TrustOption = False,
    quiet: QuietOption = False,
) -> None:
    """Serve a page on this machine: choose a strength, type a prompt, see original and unlearned side by side."""
    with clear_errors(quiet=quiet):
        from hf_untangle.app.serve import check_installed, launch

        check_installed()
        from hf_untangle.app.strengths import open_strengths
        from hf_untangle.by_name import Loading

        how = Loading(device_map=device_map, revision=revision, trust_remote_code=trust_remote_code)
        strengths = open_strengths(result, original=original, **how)
        page = launch(strengths, port=port, browser=browser)
        console.print(f"The page is at {page.local_url}, on this machine alone. Stop it with Ctrl+C.", soft_wrap=True)
        page.block_thread()
