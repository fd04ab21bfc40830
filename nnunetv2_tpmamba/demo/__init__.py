"""The parts of the demo: synthetic CTs or the user's data, the folder it works in, and its table of scores."""
