"""Perplexity of texts from the log-probabilities of their tokens."""
