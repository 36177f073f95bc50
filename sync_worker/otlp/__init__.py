"""Delivery: OTLP/HTTP to Kelet and any other target, by the rules of the protocol. Knows nothing of Langfuse."""
