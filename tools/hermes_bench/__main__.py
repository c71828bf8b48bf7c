"""`python -m hermes_bench`: the same as `hermes-bench`."""

from __future__ import annotations

from hermes_bench.cli import main

main()
