"""The one kind of error that a user can mend, printed as a single line; and counts in messages."""

from __future__ import annotations


class UserError(ValueError):
    """Something about the input is wrong; the message says what, where, and how to mend it.

    The command line prints the message without a traceback and exits with code 2.
    """


def counted(number: int, what: str) -> str:
    """Return a number and what is counted: '1 image', '1,200 images'."""
    return f"{number:,} {what}{'s' * (number != 1)}"
