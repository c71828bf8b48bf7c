"""A process that reads a store beside its server until it has seen a given lsn.

    python reader_child.py FOLDER LAST_LSN

Prints "ready" when it has begun, then nothing until it ends; exits with 0 if what it
saw had no gap but for segments dropped before it came to them.
"""

from __future__ import annotations

import sys

from hermes.log.reader import open_reader


def main(folder: str, last_lsn: int) -> int:
    reader = open_reader(folder)
    print("ready", flush=True)  # noqa: T201
    at = 1
    dropped = 0
    while at <= last_lsn:
        for record in reader.read(at, limit=7, limit_bytes=1 << 20):
            if record.lsn != at:
                dropped += 1
            at = record.lsn + 1
        newest = reader.publishes(0, limit=1, limit_bytes=1 << 20)[0]
        assert newest, "there is always a publish held"
    reader.close()
    print(dropped)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
