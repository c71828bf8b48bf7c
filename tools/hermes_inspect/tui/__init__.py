"""The screen of `hermes-inspect log`: what is seen, what is typed, and what is read for it.

Decisions are in the [P] modules (`window`, `rates`, `rows`, `columns`), what blocks is in
`source.py`, and widgets only join the two. Imported when a terminal is there to show it:
a pipe must not pay for it.
"""
