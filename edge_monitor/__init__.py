"""edge-monitor: an onboard safety monitor whose decisions come with proof."""

__version__ = "0.1.0"
