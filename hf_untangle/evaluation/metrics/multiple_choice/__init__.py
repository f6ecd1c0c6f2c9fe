"""How often a model prefers the right one of several choices."""
