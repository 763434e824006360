"""The one family of errors the library raises, and the one kind of notice it gives."""


class GeomatchError(Exception):
    """Something went wrong that the user can understand; the message is one clear sentence.

    ``exit_code`` is what the command line ends with: 1 for a failure, 2 for usage and bad input.
    """

    exit_code = 1


class InputError(GeomatchError):
    """A file, folder, name or value given by the user cannot be used."""

    exit_code = 2


class WeightsError(InputError):
    """A weights file is missing, damaged, unsafe or of the wrong kind."""


class OutOfMemoryError(GeomatchError):
    """The work does not fit in memory; the message names the option that makes it smaller."""


class TrainingError(GeomatchError):
    """Training had to stop."""


class GeomatchWarning(UserWarning):
    """A notice for the user: the work goes on, but something was not quite as given."""
