"""The stages of an observation: plan, read, assemble, prepare, filter, redact, convert, deliver, commit.

One file a stage; `sink` commits what the target answered. `driver` runs them. Those between prepare and convert that
change traces, as `redact`, are each a `Stage`. What is read, which of it is ready, and what is committed after that is
defined by `Work`: see `runs`.
"""
