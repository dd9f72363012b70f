"""The error tree. Each class is one documented exit code; `pipeline.__main__` maps them once.

A message is one line: what, where, how many, the first example, what to do.
"""


class PipelineError(Exception):
    """Base of the tree: anything that is told in one line."""

    exit_code = 1

    def __str__(self) -> str:
        """The message on one line: what names of files say to a terminal comes out as text."""
        return printable(super().__str__())


class ConfigError(PipelineError):
    """An unknown name, a bad value, or a setting that must be given."""

    exit_code = 2


class DataError(PipelineError):
    """The competition's files are damaged, incomplete or contradict each other."""

    exit_code = 3


class SubmissionError(PipelineError):
    """The submission check failed; nothing was uploaded."""

    exit_code = 4


class LimitError(PipelineError):
    """The competition takes no more submissions today, or the GPU quota is used up."""

    exit_code = 5


class CredentialsError(PipelineError):
    """Credentials are missing, expired or refused."""

    exit_code = 6


class AccessError(PipelineError):
    """The account may not do this: rules not accepted, competition not joined."""

    exit_code = 7


class HostError(PipelineError):
    """The host cannot be reached, answers wrongly, or could not score."""

    exit_code = 8


class OutageError(HostError):
    """The host is busy, broken or out of reach, and may answer a little later."""


class StorageError(PipelineError):
    """The disk is full or the folder cannot be written."""

    exit_code = 9


class BusyError(PipelineError):
    """Another command works in this checkout."""

    exit_code = 10


class BudgetError(PipelineError):
    """The time budget ended before the work; what was done is kept and continued."""

    exit_code = 11


def error_for_exit_code(code: int, message: str) -> PipelineError:
    """The error of a child process that ended with `code`."""
    kinds = {kind.exit_code: kind for kind in PipelineError.__subclasses__()}
    return kinds.get(code, PipelineError)(message)


def printable(text: str) -> str:
    """The text on one line, with escapes in place of what a terminal would obey, not show."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
