"""What works on which type of model: tiny models of every type in the installed transformers, put to the test."""
