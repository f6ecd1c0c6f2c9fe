"""Metrics as modules of the `evaluate` library: each folder is what `evaluate.load` takes, whole in itself."""
