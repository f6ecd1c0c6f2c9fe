"""Ground truth for importances: models in which a language lives in known neurons."""
