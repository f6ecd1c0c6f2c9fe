"""Write the example cards anew from the record and the mask of the demo's run, which lie beside them.

    python model_cards/make_examples.py

A new run takes the place of the old one with: hf-untangle demo, then untangle.json, mask.safetensors and
plots/trade_off.png of its folder copied to model_cards/examples.
"""

from pathlib import Path

from huggingface_hub import ModelCard

from hf_untangle.folders import MARKER
from hf_untangle.masks.card import mask_card
from hf_untangle.masks.mask import FILE, NeuronMask
from hf_untangle.models import EMBEDDED
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting.adapter_path import adapter_path_card
from hf_untangle.reporting.model_card import model_card
from hf_untangle.statistics.card import statistics_card

EXAMPLES = Path(__file__).parent / "examples"


def example_cards(folder: Path = EXAMPLES) -> dict[str, ModelCard]:
    """Make one card of every kind, from nothing but what a run wrote down.

    Args:
        folder: Where its record and its mask are.

    Returns:
        The cards by file name.
    """
    record = UnlearnRecord.model_validate_json((folder / MARKER).read_text(encoding="utf-8"))
    mask = NeuronMask.load(folder / FILE)
    license = next(one.license for one in EMBEDDED.values() if one.hub_id == record.model)
    read = [record.corpora["forget_train"]]
    return {
        "result.md": model_card(record, license),
        "strengths.md": adapter_path_card(record, "you/smollm2-without-code-strengths", license),
        "mask.md": mask_card(mask.kept, mask.kinds, mask.model, "you/smollm2-code-mask", license),
        "statistics.md": statistics_card(
            record.model, record.revision, record.dtype, read, roots=False, source="you/smollm2-on-code"
        ),
    }


if __name__ == "__main__":
    for name, card in example_cards().items():
        (EXAMPLES / name).write_text(str(card), encoding="utf-8")
