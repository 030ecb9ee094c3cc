"""Errors that are the user's to mend: one line each (what, where, how to mend) and a documented exit code.

Everything that is not an :class:`EdgeMonitorError` is a defect of ours and keeps its traceback.
"""

from __future__ import annotations


class EdgeMonitorError(Exception):
    """Base of all errors that a person can mend; ``exit_code`` is what the command line returns."""

    exit_code = 2


class UsageError(EdgeMonitorError):
    """A command or call was put together wrongly."""

    exit_code = 2


class ConfigError(EdgeMonitorError):
    """An envelope, key or other configuration file is not usable as it stands."""

    exit_code = 3


class DamagedInputError(EdgeMonitorError):
    """An input file cannot be read (at all, or past a point)."""

    exit_code = 4


class VerificationError(EdgeMonitorError):
    """A signature, chain or re-execution does not hold."""

    exit_code = 5
