"""What the sensors really see: statistics of pictures, scans, clouds, inertial samples and detections, as signals."""
