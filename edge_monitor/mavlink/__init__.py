"""MAVLink: frames out of bytes, messages as channels for the layout, links to a vehicle; for sources, outputs and readers."""
