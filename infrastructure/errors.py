"""What ends a command of an operator's: a message that says what, where, which value, and what to do.

CannotPackage    the Lambda's archive cannot be made
CannotDeploy     the stack cannot be made, changed or removed
Unusable         the command itself cannot be understood
"""

from __future__ import annotations


class OperatorError(Exception):
    """The root: what went wrong is said without a traceback. `exit_code` is the process's."""

    exit_code = 1


class CannotPackage(OperatorError):
    """A package is missing or too large, or no wheel of it fits Lambda."""


class CannotDeploy(OperatorError):
    """The account, the region or CloudFormation stands in the way."""


class Unusable(OperatorError):
    """A word on the command line cannot be used."""

    exit_code = 2
