"""What tests share: rows to make, faults to script."""
