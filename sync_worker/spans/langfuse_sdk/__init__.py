"""Spans of Langfuse's own SDKs: their attributes are not kept, so they are written again as each SDK writes them.

Read off langfuse 3.0.0 to 5.0.4 (`attributes.py`, `span.py`, `propagation.py`, `span_processor.py` of `_client`,
`openai.py`, `langchain/CallbackHandler.py`) and @langfuse/tracing, otel, openai and langchain 4.0.0 to 5.11.1.
"""
