"""What ROS 2 calls things and how its messages are defined, for whoever joins its graph with or without ROS installed."""
