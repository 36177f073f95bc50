"""Keeps a Kelet project in step with a Langfuse project: observations in, OTLP spans out, once each."""

__version__ = "0.1.0"
