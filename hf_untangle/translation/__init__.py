"""Networks rewritten as other networks that compute the same function."""
