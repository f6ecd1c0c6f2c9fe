"""Piecewise linear KANs: ReLU networks as KANs, and back."""
