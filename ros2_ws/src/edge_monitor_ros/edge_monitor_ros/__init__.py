"""edge-monitor as a ROS 2 node. Everything that decides is in the Python package ``edge-monitor``; here is what ROS needs."""

try:
    import edge_monitor  # noqa: F401
except ImportError:
    raise SystemExit(
        "edge_monitor_ros: the Python package edge-monitor is missing: python3 -m pip install edge-monitor "
        "(in a venv with --system-site-packages)"
    ) from None
