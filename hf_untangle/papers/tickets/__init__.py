"""Evolved lottery tickets on handwritten digits, beside other ways to a mask of the same density."""
