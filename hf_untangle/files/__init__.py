"""One checked reader for every file that this package did not write a moment ago: nothing in it is believed."""
