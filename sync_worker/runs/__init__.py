"""What a run can do with a source: one file each. Those that send pass `Work` to the pipeline."""
