"""The pure part: bytes to samples to verdicts to decisions. No clock, no I/O, no randomness, no logging."""
