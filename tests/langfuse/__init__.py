"""Langfuse's side against recorded answers, and against a server that has bad days."""
