"""A page on this machine, to try a result out: original and unlearned side by side, at every strength."""
