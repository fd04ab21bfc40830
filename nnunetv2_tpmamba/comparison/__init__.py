"""Compare segmentation methods on the same cases: scores, paired statistics, cost and a report."""
