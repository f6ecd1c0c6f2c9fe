"""The settings of unlearning, pruning, repair and attacks."""
