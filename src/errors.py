"""The one kind of error that a user can mend; the command line prints it as a single line."""

from __future__ import annotations


class UserError(ValueError):
    """Something about the input is wrong; the message says what, where, and how to mend it.

    The command line prints the message without a traceback and exits with code 2.
    """
