"""Faults on purpose: a server process to kill, clients that keep books, and a checker."""
