"""The errors that geomatch raises, and its warning."""


class GeomatchError(Exception):
    """The base of all errors that geomatch raises; the message is one sentence for the user.

    ``exit_code`` is the exit status of the command line: 1 for a failure, 2 for usage and bad input.
    """

    exit_code = 1


class InputError(GeomatchError):
    """A file, folder, name or value given by the user cannot be used."""

    exit_code = 2


class WeightsError(InputError):
    """A weights file is missing, damaged, unsafe or of another network."""


class OutOfMemoryError(GeomatchError):
    """There is not enough memory; the message names the options that need less."""


class TrainingError(GeomatchError):
    """Training cannot continue."""


class GeomatchWarning(UserWarning):
    """A warning for the user: the work continues, but not exactly as asked."""
