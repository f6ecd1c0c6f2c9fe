"""Neuroevolutionary ticket search: finding masks and parameters in tandem, by evolution with learning in the loop."""
