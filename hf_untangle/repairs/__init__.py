"""Getting back what pruning took from the retain corpus, while removed neurons stay removed."""
