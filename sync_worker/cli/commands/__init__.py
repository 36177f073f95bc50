"""The commands: a package each, which `cli.parser` finds here.

Its `__init__` declares what can be typed (`GROUP`, `PLACE` in it, `add_to`) and is imported at each start; its module
`run`, with all that the command needs, only when it runs.
"""
