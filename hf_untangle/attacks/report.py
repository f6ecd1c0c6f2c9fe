"""What came of the attacks, to look at and to keep."""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from rich.table import Table

from hf_untangle.arguments import checked_calls
from hf_untangle.display import notebook_html, short_repr, table_text
from hf_untangle.folders import whole_file
from hf_untangle.records.attacks import AttackRecord
from hf_untangle.reporting.attack_plot import attack_figure
from hf_untangle.reporting.attacks import attack_markdown, attack_sentences, attack_settings, attack_table


@checked_calls
@dataclass(frozen=True)
class AttackReport:
    """Every reading of some attacks, and the ways to show them."""

    record: AttackRecord
    """Every setting and every number."""
    __repr__ = short_repr
    _repr_html_ = notebook_html

    def describe(self) -> str:
        """Say what was attacked and how, then how much returned.

        Returns:
            One sentence, the table as text, and what was found besides.
        """
        names = ", ".join(outcome.attack for outcome in self.record.outcomes)
        found = "\n".join(attack_sentences(self.record))
        parts = [f"{names or 'no attack'}.\n{attack_settings(self.record)}", table_text(self.table()), found]
        return "\n\n".join(filter(None, parts))

    def table(self) -> Table:
        """Lay the outcome out for a terminal (print it with `rich.print`) or a notebook.

        Returns:
            A row for each dose of each attack, and a column for each model.
        """
        return attack_table(self.record)

    def markdown(self) -> str:
        """Write the outcome for a card or any page in Markdown.

        Returns:
            The same table in Markdown, and what was found besides.
        """
        return attack_markdown(self.record)

    def figure(self) -> Figure:
        """Draw the outcome.

        Returns:
            A panel for each attack, with a line for each model.
        """
        return attack_figure(self.record)

    def save(self, file: str | Path) -> None:
        """Write every reading as JSON.

        Args:
            file: Where to write.

        Raises:
            OutputError: The file cannot be written; what was there is untouched.
        """
        with whole_file(file) as draft:
            draft.write_text(self.record.model_dump_json(indent=2) + "\n", encoding="utf-8")
