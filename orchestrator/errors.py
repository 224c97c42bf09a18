"""Errors that people meet. Each is one sentence: where, what was found, what was expected, what to do.

MtalError              anything a user can mend; the command line prints it and exits with 2
├── ConfigError        the user's YAML, --set or plugin
├── RunError           a run folder that cannot be used as it is
└── TrialError         a trial that could not finish
"""


class MtalError(Exception):
    """Something the user can mend; its text is the whole message."""


class ConfigError(MtalError):
    """A configuration that cannot mean anything."""


class RunError(MtalError):
    """A run folder, checkpoint or file that cannot be used as it is."""


class TrialError(MtalError):
    """A trial that could not finish; the others went on."""


def disk_sentence(error: OSError, where: object = "a file") -> str:
    """What a disk, a folder or object storage did not do, and what to do; ``where`` if the error does not say it."""
    name = str(error.filename or where)
    says_it_all = name == "S3" or name.startswith("s3://")  # errors of object storage end with their own advice
    return f"{name}: {error.strerror or error}{'' if says_it_all else '; mend that or make room'}"
