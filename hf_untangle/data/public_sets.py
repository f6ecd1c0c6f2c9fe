"""The sets of the public benchmarks of unlearning: TOFU, MUSE and WMDP, all on the Hub."""

from dataclasses import replace

from hf_untangle.data.named import NamedCorpus

TOFU_SIZES = {"01": "99", "05": "95", "10": "90"}
"""Percent of TOFU's 200 authors to forget, and to retain."""
MUSE = {"news": ("MUSE-News", "BBC news of after August 2023", "CC-BY-4.0"), "books": ("MUSE-Books", "Harry Potter", "unknown")}
"""The two parts of MUSE: repository, what is forgotten, and the license of its card."""


def _tofu(config: str, summary: str) -> NamedCorpus:
    """Describe one configuration of TOFU (arXiv:2401.06121); a document is a question and its answer."""
    return NamedCorpus(summary, "locuslab/TOFU", "MIT", config=config, columns=(), kind="pair")


def _tofu_sets() -> dict[str, NamedCorpus]:
    """All of TOFU by name; `perturbed` questions come with paraphrases and wrong answers."""
    found = {}
    for forget, retain in TOFU_SIZES.items():
        share, rest = int(forget), int(retain)
        found |= {
            f"tofu-forget{forget}": _tofu(f"forget{forget}", f"questions on {share}% of 200 invented authors"),
            f"tofu-retain{retain}": _tofu(f"retain{retain}", f"questions on the other {rest}% of 200 invented authors"),
            f"tofu-forget{forget}-perturbed": _tofu(f"forget{forget}_perturbed", f"tofu-forget{forget} with wrong answers too"),
            f"tofu-holdout{forget}": _tofu(f"holdout{forget}", "questions on invented authors that no model is trained on"),
        }
    return found | {
        "tofu-full": _tofu("full", "questions on all 200 invented authors"),
        "tofu-retain-perturbed": _tofu("retain_perturbed", "400 retained questions with wrong answers too"),
        "tofu-real-authors": _tofu("real_authors_perturbed", "questions on real authors, with wrong answers"),
        "tofu-world-facts": _tofu("world_facts_perturbed", "questions on the world, with wrong answers"),
    }


def _muse_sets(name: str) -> dict[str, NamedCorpus]:
    """One part of MUSE (arXiv:2407.06460) by name."""
    repository, about, license = MUSE[name]

    def texts(config: str, split: str, summary: str) -> NamedCorpus:
        return NamedCorpus(summary, f"muse-bench/{repository}", license, config=config, split=split)

    def pairs(config: str, split: str, summary: str) -> NamedCorpus:
        return replace(texts(config, split, summary), columns=(), kind="pair")

    named = {
        "forget": texts("raw", "forget", f"text to forget: {about}"),
        "retain": texts("raw", "retain1", "text of the same kind to keep"),
        "seen": texts("privleak", "forget", "excerpts of the text to forget, for membership inference"),
        "unseen": texts("privleak", "holdout", "excerpts of text that no model is trained on"),
        "verbatim": pairs("verbmem", "forget", "beginnings of the text to forget, and what follows them"),
    }
    for part in ("forget", "retain"):
        what = f"questions on the text to {part}"
        named[f"{part}-questions"] = pairs("knowmem", f"{part}_qa", what)
        named[f"{part}-examples"] = pairs("knowmem", f"{part}_qa_icl", f"{what}, shown before others as examples")
    return {f"muse-{name}-{part}": one for part, one in named.items()}


def _choices(summary: str, repository: str, license: str, config: str | None = None, split: str = "test") -> NamedCorpus:
    """Describe multiple-choice questions; a document is a question and its right answer."""
    return NamedCorpus(summary, repository, license, config=config, split=split, columns=(), kind="pair")


def _robust(split: str, summary: str) -> NamedCorpus:
    """Describe one split of the questions of WMDP-bio that were sorted by whether a shortcut answers them (arXiv:2508.06601).

    They are in a configuration for every topic, which the Hub's Parquet copy keeps apart in folders.
    """
    files = f"refs/convert/parquet/*/{split}/*.parquet"
    return replace(_choices(summary, "EleutherAI/wmdp_bio_robust_mcqa", "unknown", split=split), files=files)


def _wmdp_sets() -> dict[str, NamedCorpus]:
    """WMDP (arXiv:2403.03218) by name."""

    def texts(config: str, summary: str) -> NamedCorpus:
        return NamedCorpus(summary, "cais/wmdp-corpora", "MIT", config=config)

    questions = {
        f"wmdp-{part}": _choices(f"multiple-choice questions on {about}", "cais/wmdp", "MIT", f"wmdp-{part}")
        for part, about in {"bio": "biosecurity", "cyber": "cybersecurity", "chem": "chemical security"}.items()
    }
    return {
        "wmdp-bio-forget": NamedCorpus(
            "biology papers with hazardous knowledge (access on request)", "cais/wmdp-bio-forget-corpus", "unknown"
        ),
        "wmdp-bio-retain": texts("bio-retain-corpus", "biology papers of general knowledge"),
        "wmdp-cyber-forget": texts("cyber-forget-corpus", "passages on cyber attacks"),
        "wmdp-cyber-retain": texts("cyber-retain-corpus", "passages on general computing"),
        **questions,
        "wmdp-bio-robust": _robust("robust", "those of wmdp-bio that no shortcut answers"),
        "wmdp-bio-shortcut": _robust("shortcut", "those of wmdp-bio that a shortcut answers"),
        "wmdp-bio-cloze": _choices(
            "those of wmdp-bio that need no list of choices", "EleutherAI/wmdp_bio_cloze", "unknown", split="cloze_compatible"
        ),
    }


PUBLIC_SETS: dict[str, NamedCorpus] = {**_wmdp_sets(), **_tofu_sets(), **_muse_sets("news"), **_muse_sets("books")}
"""Every set of a public benchmark, by its name here."""
