"""The benchmark, held to what it says of itself; no test here measures anything."""
