"""The speed and memory of the network and its parts, each beside what a reader would otherwise use."""

PARTS = ("encoder", "scan", "network", "prediction", "flops", "rows")
"""All tasks of the benchmark."""

PARTS_BY_DEFAULT = PARTS[:-1]
"""What is measured unless parts are named; the rows of the paper's tables take much longer than all of these."""
