"""Errors that the command line reports in one message, without a traceback."""


class UsageError(Exception):
    """What was asked for cannot be done as asked: nothing was run, or a chapter refused its parameters (exit status 2)."""


class BuildError(Exception):
    """Something that was run did not succeed (exit status 1)."""
