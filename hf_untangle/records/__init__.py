"""What happened in a run, as plain values that a report, a card or a later comparison needs."""
