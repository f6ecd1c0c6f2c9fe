"""Whether texts that a model was trained on can be told from others."""
