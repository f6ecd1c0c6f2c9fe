"""Checked readers for every kind of file that this package reads back: nothing that a file states is believed."""
