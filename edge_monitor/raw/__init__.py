"""Messages of chosen topics as they came, in MCAP files beside the tape (docs/black_box.md)."""
