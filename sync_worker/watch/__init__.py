"""What the operator sees of a run while it goes on."""
