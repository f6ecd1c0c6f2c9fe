"""What can be said at once, before libraries are imported that take seconds: that there is no such model."""

from collections.abc import Sequence
from pathlib import Path

from hf_untangle.errors import ArchitectureError

TRAINED_HERE = ("digits-vit",)
"""Names of models that are trained when they are asked for."""


def check_model_exists(name: str) -> None:
    """Refuse the name of a model that is nowhere: neither in a package nor in a folder, nor, where it can be told, on the Hub.

    Args:
        name: What was given as a model.

    Raises:
        ArchitectureError: There is no such model.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import validate_repo_id

    from hf_untangle.config import nearest
    from hf_untangle.hub.reachable import hub_is_reachable
    from hf_untangle.packaged import EMBEDDED

    if name in EMBEDDED or name in TRAINED_HERE or Path(name).exists():
        return
    where = f"`{name}` must be a folder with a checkpoint, a model on the Hub, or one of {list(EMBEDDED)}"
    close = nearest(name, EMBEDDED)
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise ArchitectureError(f"{where}, but there is no such folder{close}.") from None
    if Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type="model")).exists() or hub_is_reachable():
        return
    raise ArchitectureError(
        f"{where}, but there is no such folder{close}, the Hub cannot be reached, and its cache does not hold it."
    )


def check_model_of_recipe(file: Path, overrides: Sequence[str]) -> None:
    """The same for the model that a recipe names; what else is wrong with the recipe is said by its reader.

    Args:
        file: A YAML file.
        overrides: Such as `model=gpt2`, which take the place of the file's values.

    Raises:
        ArchitectureError: There is no such model.
    """
    from hf_untangle.files.yaml_text import LIMIT, parse_yaml

    named = [text.partition("=")[2] for text in overrides if text.partition("=")[0].strip() == "model"]
    if not named and file.is_file() and file.stat().st_size <= LIMIT:
        try:
            content = parse_yaml(file.read_text(encoding="utf-8"))
        except (ValueError, OSError):
            return
        named = [content["model"]] if isinstance(content, dict) and isinstance(content.get("model"), str) else []
    for name in named[-1:]:
        check_model_exists(name)
