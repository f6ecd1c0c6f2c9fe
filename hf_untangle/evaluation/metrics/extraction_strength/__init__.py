"""How little of an answer a model needs in order to write the rest."""
