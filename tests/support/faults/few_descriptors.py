"""`hermes`, with few file descriptors: `python -m tests.support.faults.few_descriptors serve`.

DESCRIPTORS is how many it may have, whatever it asks for.
"""

from __future__ import annotations

import os
import resource
import sys

from hermes.cli.main import main

if __name__ == "__main__":
    _limit = int(os.environ["DESCRIPTORS"])
    resource.setrlimit(resource.RLIMIT_NOFILE, (_limit, _limit))
    sys.argv[0] = "hermes"
    main()
