"""Kelet's side: requests as bytes, what answers mean, and delivery to a receiver that has bad days."""
