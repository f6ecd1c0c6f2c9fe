"""Share of an answer that a model has by heart."""
