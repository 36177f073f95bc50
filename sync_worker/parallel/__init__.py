"""Jobs: processes that sync intervals, each the whole way, and the process that leads them."""
