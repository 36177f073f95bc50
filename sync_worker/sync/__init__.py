"""The way of the data: plan, read, assemble, convert, send, commit. The one package that knows all the others."""
