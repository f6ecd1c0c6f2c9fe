"""Whether a model still writes, or only repeats itself."""
