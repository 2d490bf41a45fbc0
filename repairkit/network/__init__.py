"""Players of a torch network: tracing, constants, masked passes, freezing."""
