"""One number a neuron: its importance to a corpus, and its score between two."""
