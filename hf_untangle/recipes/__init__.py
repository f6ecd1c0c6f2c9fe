"""Whole jobs, as recipes describe them: load, do, save. One file a task, and `catalog.py` lists them."""
