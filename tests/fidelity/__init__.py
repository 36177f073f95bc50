"""How near the spans come to a direct export: pairs of both, the comparison, and docs/fidelity.md made from it."""
