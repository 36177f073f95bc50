"""Langfuse's side: its public API read into `records`. Knows nothing of OTLP."""
