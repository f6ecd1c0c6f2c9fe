"""Overlap of completions with the text that really follows."""
