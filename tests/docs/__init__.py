"""The documentation, held to the code: tables, links, command lines, JSON fields, import rules."""
