"""`python -m hermes` is the `hermes` command."""

from __future__ import annotations

from hermes.cli.main import main

if __name__ == "__main__":
    main()
