"""The commands: each is a module that is imported when it runs; `cli.parser` has their options."""
