"""Pure conversion: a Langfuse observation becomes an OTLP span. No I/O, no clock."""
