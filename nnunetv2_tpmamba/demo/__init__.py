"""What the demo needs: synthetic CTs, or the user's data, and a table of scores."""
