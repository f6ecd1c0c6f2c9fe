"""Python's reference manual: text out of distribution that needs no network."""

from dataclasses import replace

from hf_untangle.data.corpora import Corpus, corpus


def manual() -> Corpus:
    """Open the topics of Python's reference manual, a register of their own, which every interpreter carries.

    Returns:
        The corpus.
    """
    from pydoc_data.topics import topics

    opened = corpus(list(topics.values()))
    return replace(opened, name="manual", source="topics of Python's reference manual", license="PSF-2.0")
