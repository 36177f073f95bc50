"""The demo's two servers and what it prints."""
