"""The monitor as a lifecycle node: ``ros2 launch edge_monitor_ros monitor.launch.py params_file:=… namespace:=robot``."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue


def generate_launch_description() -> LaunchDescription:
    """The node and its arguments."""
    share = Path(get_package_share_directory("edge_monitor_ros"))
    named = {
        "params_file": (str(share / "config" / "monitor.yaml"), "parameters: which envelope, journal, key"),
        "namespace": ("", "of the node, its topics and those of the envelope that have no leading slash"),
        "use_sim_time": ("false", "measure latencies on the time of a simulator"),
        "autostart": ("true", "configure and activate at once"),
        "log_level": ("info", "of the node"),
    }
    given = {name: LaunchConfiguration(name) for name in named}
    node = Node(
        package="edge_monitor_ros",
        executable="monitor",
        name="edge_monitor",
        namespace=given["namespace"],
        output="screen",
        parameters=[
            given["params_file"],
            {name: ParameterValue(given[name], value_type=bool) for name in ("use_sim_time", "autostart")},
        ],
        arguments=["--ros-args", "--log-level", given["log_level"]],
    )
    arguments = [
        DeclareLaunchArgument(name, default_value=value, description=text) for name, (value, text) in named.items()
    ]
    return LaunchDescription([*arguments, node])
