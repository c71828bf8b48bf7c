"""[P] The client without I/O: state machines fed with responses, asked for requests."""
