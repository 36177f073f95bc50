"""A seeded simulation: months of bad luck for the worker, in one process and without real time."""
