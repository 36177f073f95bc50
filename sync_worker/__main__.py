"""`python -m sync_worker`: the same as the console script `sync-worker`."""

import sys

from sync_worker.cli import main

sys.exit(main())
