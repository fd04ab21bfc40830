"""The parts of the report: each module has a function ``measure(work)`` that runs in a process of its own."""
