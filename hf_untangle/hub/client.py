"""How this package talks to the Hub."""

from importlib.metadata import version

from huggingface_hub import HfApi


def hub_client(token: str | None) -> HfApi:
    """Make a client that tells the Hub which package asks.

    Args:
        token: What to log in with; the token of `hf auth login` or `HF_TOKEN` when None.

    Returns:
        The client.
    """
    return HfApi(token=token, library_name="hf_untangle", library_version=version("hf-untangle"))
