"""`python -m hermes_inspect`: the same as `hermes-inspect`."""

from __future__ import annotations

from hermes_inspect.cli import main

main()
