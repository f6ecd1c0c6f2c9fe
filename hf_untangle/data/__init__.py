"""Text and how it reaches a model: corpora, their parts, and blocks of tokens."""
