"""The error that a tool reports in one line."""


class DataError(Exception):
    """Bad data: reported as the line `tool: where: what`, with exit status 1. `what` says what to do about it."""

    def __init__(self, where: str, what: str):
        super().__init__(where, what)  # both, so that it can be sent from one process to another

    def __str__(self) -> str:
        return ": ".join(map(str, self.args))


class NotFound(DataError):
    """The server, the storage or the disk does not have this."""
