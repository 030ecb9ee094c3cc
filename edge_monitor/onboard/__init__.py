"""The onboard process: live inputs in, decisions out, everything journaled, taped, and told to whoever must know."""
