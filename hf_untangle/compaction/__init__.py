"""Smaller checkpoints: removed neurons are taken out of the tensors, in memory or from folder to folder."""
