"""Entropy of bits and neurons: what the least and the most informative of them are worth, in and out of distribution."""
