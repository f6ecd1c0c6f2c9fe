"""Attacks on a model that has unlearned: does what was removed come back?"""
