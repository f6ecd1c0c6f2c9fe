"""Density across widths: how much of a network can be pruned in one shot, and how its core grows with it."""
