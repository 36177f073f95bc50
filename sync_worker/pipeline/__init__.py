"""The stages of an observation: plan, read, assemble, prepare, select, convert, batch, deliver, commit.

One file a stage. `driver` runs them in this order. What is read, and which of it is ready, is defined by `Work`: see
`runs`.
"""
