"""Errors that a tool reports in one line."""


class DataError(Exception):
    """Bad data, told as `tool: where: what` in one line; the exit status is 1."""

    def __init__(self, where, what):
        super().__init__(where, what)  # both, so that it can pass between processes

    def __str__(self):
        return ": ".join(map(str, self.args))
