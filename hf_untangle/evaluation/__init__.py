"""What a model can still do: next-token metrics and continuations."""
