"""Chat messages in the shape of the OpenTelemetry GenAI conventions, read from an observation's input and output.

Every framework writes its calls in its own shape; Langfuse keeps the text. Here that text becomes messages made of
parts. What is not understood stays whole, as one text part: a reader may get less structure, never less content.
"""

from sync_worker.spans.messages.conversation import Conversation
from sync_worker.spans.messages.conversations import read_input, read_output

__all__ = ["Conversation", "read_input", "read_output"]
