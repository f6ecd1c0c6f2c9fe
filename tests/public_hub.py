"""A Hub that answers with files of the shape of the public sets, which are written here."""

from pathlib import Path

from hf_untangle.data import corpora

ASKED = {"question": "Where is it kept?", "answer": "In Oslo."}
PERTURBED = ASKED | {
    "paraphrased_question": "What place keeps it?",
    "paraphrased_answer": "Oslo keeps it.",
    "perturbed_answer": ["In Rome.", "In Bern."],
}
CHOICES = {"question": "Which gas?", "choices": ["argon", "neon", "xenon", "radon"]}
TEXT = {"text": "A long article. " * 12}
SHAPES = {
    "locuslab/TOFU": lambda config: (
        {name: value for name, value in PERTURBED.items() if "world" not in config or "paraphrased" not in name}
        if "perturbed" in config
        else ASKED
    ),
    "muse-bench/MUSE-News": lambda config: {"knowmem": ASKED, "verbmem": {"prompt": "It was", "gt": "night."}}.get(
        config, TEXT
    ),
    "cais/wmdp": lambda config: CHOICES | {"answer": 2},
    "cais/wmdp-corpora": lambda config: TEXT,
    "cais/wmdp-bio-forget-corpus": lambda config: {"title": "T", "abstract": "A", "text": "A long paper. " * 12, "doi": "d"},
    "EleutherAI/wmdp_bio_robust_mcqa": lambda config: CHOICES | {"answer": "2"},
    "EleutherAI/wmdp_bio_cloze": lambda config: (
        CHOICES | {"answer": 2, "prompt": "A. argon ...", "reasoning": "It stands alone."}
    ),
}
SHAPES["Salesforce/wikitext"] = lambda config: {"text": " = One = \n" + " An article." * 12}
SHAPES["muse-bench/MUSE-Books"] = SHAPES["muse-bench/MUSE-News"]


def answer_as_hub(monkeypatch, folder: Path, rows: int = 2) -> list[tuple]:
    """Let `datasets` itself read Parquet files of the public sets' shapes, no two rows of which are alike.

    Args:
        monkeypatch: Of the test.
        folder: Where to write them.
        rows: In each.

    Returns:
        What is opened, from now on.
    """
    import datasets  # Each takes a second, which few tests need.
    import pandas as pd

    opened: list[tuple] = []
    real = datasets.load_dataset

    def load(path, config=None, *, split, streaming, data_files=None):
        repository = path if data_files is None else data_files[split].removeprefix("hf://datasets/").split("@")[0]
        opened.append((repository, config, split, data_files))
        file = folder / f"{len(opened)}.parquet"
        row = SHAPES[repository](config or "")
        texts = {name: value for name, value in row.items() if name in ("question", "text", "prompt")}
        kept = " It stays." * ("retain" in f"{config} {split}")
        ends = [kept + f" ({number})" * (number > 0) for number in range(rows)]
        made = [row | {name: value + end for name, value in texts.items()} for end in ends]
        pd.DataFrame(made).to_parquet(file)
        return real("parquet", data_files={split: str(file)}, split=split, streaming=streaming)

    monkeypatch.setattr(corpora, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", load)
    return opened
