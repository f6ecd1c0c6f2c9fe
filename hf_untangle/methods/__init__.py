"""Unlearning methods: forget objective, retain objective, what is written, optimizer and stop rule, put together by name."""
