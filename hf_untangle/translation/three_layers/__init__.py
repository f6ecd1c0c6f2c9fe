"""Deep ReLU networks as three-layer networks over the extended reals, by their linear regions."""
