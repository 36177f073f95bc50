"""Jobs: processes that sync intervals of a backfill, each the whole way, and the process that leads them."""
