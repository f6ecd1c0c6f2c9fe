"""How probable answers are to a model."""
