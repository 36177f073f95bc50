"""Pure conversion: a Langfuse row becomes an OTLP span. No I/O, no clock."""
