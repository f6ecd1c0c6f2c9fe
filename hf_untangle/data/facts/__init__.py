"""A benchmark of facts: questions on invented people, places and works, made from a seed, and on the real world."""
