"""What one recipe does with a model that has unlearned: repair, make robust, attack, save, compact and push it."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from transformers import PreTrainedModel

from hf_untangle.compaction.folder_to_folder import FolderRecord
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.configs.robustify import RobustifyConfig
from hf_untangle.distributed import in_main
from hf_untangle.errors import ConfigError
from hf_untangle.folders import check_apart, check_replaceable
from hf_untangle.recipes.attack import Attacks, show_attacks
from hf_untangle.recipes.compact import Compaction, show_compaction
from hf_untangle.recipes.estimates import attack_stage, repair_stage, robustify_stage
from hf_untangle.recipes.model_size import ModelSize
from hf_untangle.recipes.plan import Stage, size_in_words
from hf_untangle.recipes.push import PushTarget
from hf_untangle.results.unlearned import UnlearnResult


@dataclass(frozen=True)
class Afterwards:
    """The stages after unlearning; one that is None is left out."""

    output: str
    """The folder that the result is saved in."""
    license: str | None
    """The license of the original model, for the card."""
    repair: RepairConfig | None
    robustify: RobustifyConfig | None
    attack: Attacks | None
    compact: Compaction | None
    push: PushTarget | None

    @property
    def needs_original(self) -> bool:
        """Whether a stage compares with the original model."""
        return self.attack is not None or (self.repair is not None and self.repair.distill > 0)

    def check(self, model: str, *, needs: int = 0) -> None:
        """Refuse folders that could not be written in the end, before anything long begins.

        Args:
            model: The model that is loaded, which no output may replace.
            needs: Bytes that the checkpoint takes.

        Raises:
            OutputError: A folder is not ours to replace.
            ConfigError: The smaller checkpoint would take the place of the one that it is made from, or a setting of the
                attacks is unknown or out of its range.
        """
        output = check_replaceable(self.output, source=model, needs=needs)
        if self.attack is not None:
            self.attack.config()
        if self.compact is None:
            return
        smaller = check_replaceable(self.compact.output, source=model)
        if smaller == output:
            raise ConfigError(
                f"`compact.output` must differ from `output`, but both are `{self.output}`: the smaller checkpoint is made "
                "from the other, which stays. Give it a folder of its own."
            )
        check_apart(output, smaller)

    def carry_out(
        self, result: UnlearnResult, *, original: PreTrainedModel | str, progress: bool
    ) -> tuple[UnlearnResult, dict[str, Any]]:
        """Repair, make robust, attack, save, compact and push, in this order.

        The result is saved before each training and before it is attacked too, so that nothing is lost where a later stage
        fails: each of them can be done again from the folder.

        Args:
            result: What unlearning gave.
            original: The original model or its name, from which a repair may learn and which attacks compare with.
            progress: Whether to show progress bars.

        Returns:
            The result as it was saved, and the outcome of the stages after that, as `compacted` and `pushed`; of several
            processes the main one has it.
        """
        if self.repair is not None:
            result.save_pretrained(self.output, license=self.license)
            result.repair(original=original, config=self.repair, progress=progress)
        if self.robustify is not None:
            result.save_pretrained(self.output, license=self.license)
            result.robustify(config=self.robustify, progress=progress)
        result.save_pretrained(self.output, license=self.license)
        if self.attack is not None:
            result = self.attack.carry_out(result, original=original, progress=progress)
            result.save_report(self.output, license=self.license)
        record: dict[str, Any] = {}
        in_main(lambda: record.update(self._hand_on()))
        return result, record

    def stages(self, size: ModelSize, test_tokens: int) -> tuple[Stage, ...]:
        """Say what is going to happen after unlearning.

        Args:
            size: The model.
            test_tokens: Tokens that an evaluation reads.

        Returns:
            The stages, in order.
        """
        stages = [] if self.repair is None else [repair_stage(size, self.repair, test_tokens)]
        if self.robustify is not None:
            stages.append(robustify_stage(size, self.robustify, test_tokens))
        if self.attack is not None:
            stages.append(attack_stage(size, self.attack.config()))
        stages.append(Stage("save", f"{size_in_words(size.weights)} into {self.output}"))
        if self.compact is not None:
            stages.append(Stage("compact", f"{self.compact.layout}, into {self.compact.output}"))
        if self.push is not None:
            size_of = "the smaller checkpoint" if self.compact else size_in_words(size.weights)
            stages.append(Stage("push", f"{size_of} to {self.push.repository}"))
        return tuple(stages)

    def _hand_on(self) -> dict[str, Any]:
        """Compact what was saved, and push the smaller checkpoint, or else the one that there is."""
        record: dict[str, Any] = {}
        if self.compact is not None:
            record["compacted"] = asdict(self.compact.compact(self.output))
        if self.push is not None:
            record["pushed"] = self.push.push(self.compact.output if self.compact else self.output)
        return record

    def show(self, result: UnlearnResult, record: dict[str, Any], console: Console) -> None:
        """Print the outcome of the attacks, and of the stages after saving.

        Args:
            result: The result as it was saved.
            record: What `carry_out` gave beside it.
            console: Where to print.
        """
        if self.attack is not None:
            show_attacks(result.record.attacks[-1], console)
        if self.compact is not None:
            show_compaction(FolderRecord(**record["compacted"]), self.compact.output, console)
        if self.push is not None:
            console.print(f"Pushed: {record['pushed']}")
