"""Which neurons stay, tried out with hooks or made permanent in the weights."""
