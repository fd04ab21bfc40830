"""How fast and how large the parts and the whole are, each beside what a reader would otherwise use."""

PARTS = ("encoder", "scan", "network", "prediction", "flops")
