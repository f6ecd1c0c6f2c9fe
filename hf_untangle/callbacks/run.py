"""What a Trainer does not tell its callbacks: the folder that a run is resumed from, and that a run has failed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_untangle.errors import ConfigError


@dataclass(eq=False)
class Run:
    """The training that a Trainer is in."""

    resumed_from: Path | None = None
    """The folder that `train` was told to resume from; None when it was told none."""
    endings: list[Callable[[], None]] = field(default_factory=list)
    """Called whenever `train` ends, also by an error or an interrupt, after which no event is sent."""


_RUNS: WeakKeyDictionary[Trainer, Run] = WeakKeyDictionary()


def model_of(trainer: Trainer) -> nn.Module:
    """Find the model that a Trainer trains, and follow its runs from now on.

    Args:
        trainer: The trainer that a callback is made for.

    Returns:
        The model as it was given to the trainer, with an adapter of peft or without.

    Raises:
        ConfigError: It is no Trainer, or has no model.
    """
    model = getattr(trainer, "model", None)
    if not isinstance(trainer, Trainer) or not isinstance(model, nn.Module):
        raise ConfigError(
            f"The first argument must be the Trainer that the callback is added to, got {type(trainer).__name__}. Make the "
            "Trainer first, then call `trainer.add_callback`."
        )
    run_of(trainer)
    return model


def tokenizer_of(trainer: Trainer) -> PreTrainedTokenizerBase | None:
    """Find the tokenizer that a Trainer has.

    Args:
        trainer: The trainer.

    Returns:
        Its processing class; None where that is no tokenizer, or there is none.
    """
    return trainer.processing_class if isinstance(trainer.processing_class, PreTrainedTokenizerBase) else None


def run_of(trainer: Trainer) -> Run:
    """Find out about the runs of a Trainer from now on.

    Args:
        trainer: The trainer, whose `train` is wrapped at the first call.

    Returns:
        The same object for all callbacks of a trainer.
    """
    if trainer not in _RUNS:
        _RUNS[trainer] = run = Run()
        trainer.train = _noted(trainer.train, run)
    return _RUNS[trainer]


def _noted(train: Callable[..., Any], run: Run) -> Callable[..., Any]:
    """The same `train`, which notes the folder that it is resumed from and always calls the endings."""

    @wraps(train)
    def noted(resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        given = resume_from_checkpoint
        run.resumed_from = None if given is None or isinstance(given, bool) else Path(given)
        try:
            return train(given, *args, **kwargs)
        finally:
            for end in run.endings:
                end()

    return noted


def file_to_save(trainer: Trainer, callback: TrainerCallback, name: str) -> Path:
    """Where a callback writes its state when a checkpoint has just been saved.

    Args:
        trainer: The trainer.
        callback: The callback.
        name: The file's name without its ending.

    Returns:
        A file in the folder of that checkpoint.
    """
    return _of_step(trainer) / _file_name(trainer, callback, name)


def file_to_resume(trainer: Trainer, callback: TrainerCallback, name: str) -> Path | None:
    """Where a callback finds its state when a run begins.

    Args:
        trainer: The trainer.
        callback: The callback.
        name: As for `file_to_save`.

    Returns:
        The file that the checkpoint should have; None when the run is not resumed.
    """
    if not trainer.state.global_step:
        return None
    return (run_of(trainer).resumed_from or _of_step(trainer)) / _file_name(trainer, callback, name)


def file_of_best(trainer: Trainer, callback: TrainerCallback, name: str) -> Path | None:
    """Where a callback finds its state of the checkpoint that `load_best_model_at_end` has loaded.

    Args:
        trainer: The trainer.
        callback: The callback.
        name: As for `file_to_save`.

    Returns:
        The file that the checkpoint should have; None when no checkpoint was loaded.
    """
    best = trainer.state.best_model_checkpoint
    if not trainer.args.load_best_model_at_end or best is None:
        return None
    return Path(best) / _file_name(trainer, callback, name)


def _of_step(trainer: Trainer) -> Path:
    """The folder of the checkpoint of the step that the run is at."""
    # Trials of a search for hyperparameters have folders of their own, which only this method knows.
    runs = trainer.args.output_dir if trainer.hp_search_backend is None else trainer._get_output_dir(trainer._trial)
    return Path(str(runs)) / f"{PREFIX_CHECKPOINT_DIR}-{trainer.state.global_step}"


def _file_name(trainer: Trainer, callback: TrainerCallback, name: str) -> str:
    """The name of a file of one callback; a second callback of its class has names of its own."""
    same = [each for each in trainer.callback_handler.callbacks if type(each) is type(callback)]
    number = same.index(callback) + 1 if callback in same else 1
    return f"untangle-{name}{f'-{number}' if number > 1 else ''}.safetensors"
