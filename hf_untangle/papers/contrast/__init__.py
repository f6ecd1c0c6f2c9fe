"""Low-entropy latent bits out of distribution: k-contrast models and their masks (arXiv:2305.12238)."""
