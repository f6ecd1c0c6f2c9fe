"""Whole jobs, as recipes describe them: load, do, save. One file a task, and `registry.py` lists them."""
