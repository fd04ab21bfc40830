"""The speed and memory of the network and its parts, each beside what a reader would otherwise use."""

PARTS = ("encoder", "scan", "network", "prediction", "flops")
