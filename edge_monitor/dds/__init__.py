"""DDS without generated types: serialized messages in and out, discovery and QoS, over the C library of Cyclone DDS."""
