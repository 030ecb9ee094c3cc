"""The signed journal: append-only, gapless, verifiable from the file and a public key.

Format: FORMAT.md (normative).
"""

from .keys import load_signing_key, load_verifier_key
from .records import Digests, Severity
from .store import LockedError
from .writer import Entry, Journal

__all__ = ["Digests", "Entry", "Journal", "LockedError", "Severity", "load_signing_key", "load_verifier_key"]
