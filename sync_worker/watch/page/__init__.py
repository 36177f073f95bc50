"""The status page: one document, made on the server, of what the state file says. Each module says what it is for."""
