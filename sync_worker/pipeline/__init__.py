"""The way of an observation: plan, read, assemble, prepare, select, convert, batch, deliver, commit. One file a stage.

`driver` goes through them from top to bottom. What is read, and what of it goes now, is a `Job`: see `runs`.
"""
