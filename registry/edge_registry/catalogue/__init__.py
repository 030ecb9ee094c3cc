"""The catalogue: models, data, evaluations, envelopes, robots, missions; who says what of them, and what came of it."""
