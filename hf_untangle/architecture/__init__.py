"""Where the neurons of a model are."""
