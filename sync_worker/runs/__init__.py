"""What a run may do with a source: one file each. Those that send give the pipeline a `Job`."""
