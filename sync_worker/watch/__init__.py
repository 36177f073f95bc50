"""What the operator sees of a run in progress."""
