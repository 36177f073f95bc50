"""Kelet's side: OTLP/HTTP delivery by the rules of the protocol. Knows nothing of Langfuse."""
