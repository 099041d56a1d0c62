"""Define the errors that end an operator's command: each says what, where, which value, and what to do.

CannotPackage    the Lambda's archive cannot be built
CannotDeploy     the stack cannot be created, changed or removed
CannotFetch      pretrained weights are out of reach or damaged
Unusable         the command line itself makes no sense
"""

from __future__ import annotations


class OperatorError(Exception):
    """The root of the tree. Its message is printed without a traceback; `exit_code` is the process's."""

    exit_code = 1


class CannotPackage(OperatorError):
    """A package is missing or too large, or none of its wheels fits Lambda."""


class CannotDeploy(OperatorError):
    """The account, the region or CloudFormation prevents it."""


class CannotFetch(OperatorError):
    """A file of pretrained weights cannot be fetched, or is not the one that its name says."""


class Unusable(OperatorError):
    """A word on the command line cannot be used."""

    exit_code = 2
