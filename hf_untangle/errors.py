"""Every error of this package: what must hold, what was given, and what to do.

Each kind is also the built-in that a caller would expect to catch.
"""

import re

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
"""Characters that end a line or steer a terminal."""
LONGEST = 1500
"""Characters of a message; what a file or a caller gave may be of any length."""


class UntangleError(Exception):
    """Any error that this package raises on purpose."""

    def __str__(self) -> str:
        """The message on one line of bounded length that can be printed, whatever a name or a text in it holds."""
        line = UNPRINTABLE.sub(" ", super().__str__()).encode("utf-8", "backslashreplace").decode()
        return line if len(line) <= LONGEST else line[:LONGEST] + "..."


class ArgumentError(UntangleError, TypeError):
    """An argument is of another kind than the function takes."""


class CorpusError(UntangleError, ValueError):
    """A corpus is unknown, empty, too small, or has no such column."""


class TokenizerError(UntangleError, ValueError):
    """No tokenizer was found, or it does not belong to the model."""


class ArchitectureError(UntangleError, ValueError):
    """A model has no neurons that this package can find, or cannot run."""


class StatisticsError(UntangleError, ValueError):
    """Statistics are missing, not finite, or belong to something else."""


class MaskError(UntangleError, ValueError):
    """A mask belongs to another model, or cannot be applied to this one."""


class CheckpointError(UntangleError, ValueError):
    """A checkpoint folder is incomplete, or holds something that cannot be cut."""


class CompactionError(UntangleError, ValueError):
    """Removed neurons cannot be taken out of this model or checkpoint."""


class ConfigError(UntangleError, ValueError):
    """A setting is unknown or out of its range."""


class BudgetError(UntangleError, RuntimeError):
    """No step of a run stays inside the budget that was asked for."""


class TranslationError(UntangleError, ValueError):
    """A network has a part that cannot be translated exactly."""


class ProcessError(UntangleError, RuntimeError):
    """Another process of a distributed run failed."""


class OutputError(UntangleError, OSError):
    """A folder cannot be written, or holds something that is not ours to replace."""


class MissingExtraError(UntangleError, ImportError):
    """An optional package is needed for this call."""


class HubError(UntangleError, OSError):
    """The Hugging Face Hub cannot be reached, or refuses what was asked of it."""
