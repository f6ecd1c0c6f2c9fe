"""Next-token accuracy among the k most likely tokens."""
