"""Whether what a model writes is Python."""
