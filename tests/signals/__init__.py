"""Scores as signals."""
