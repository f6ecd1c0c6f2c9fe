"""The loops that choose what to remove."""
