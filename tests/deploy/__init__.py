"""The files in deploy/, held against the program and against each other; nothing is deployed."""
