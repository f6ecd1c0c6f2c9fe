"""Callbacks for any Trainer, each a thin one over a function of a lower room."""
