"""Hermes: an event broker in which every publish, delivery and ack is an event in a log."""
