from setuptools import setup

NAME = "edge_monitor_ros"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/monitor.launch.py"]),
        (f"share/{NAME}/config", ["config/monitor.yaml", "config/policy.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    description="edge-monitor as a ROS 2 lifecycle node, and a gate for cmd_vel",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            f"monitor = {NAME}.node:main",
            f"cmd_vel_gate = {NAME}.cmd_vel_gate:main",
        ],
        "ros2cli.command": [f"edge-monitor = {NAME}.command:EdgeMonitorCommand"],
    },
)
