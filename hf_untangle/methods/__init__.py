"""Unlearning methods: forget objective, retain objective, what is written, optimizer and stop rule, put together by name."""

from hf_untangle.doors import open_door

open_door(__name__)
