"""A finished result as plots, a page and a model card."""
