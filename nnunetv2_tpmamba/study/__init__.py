"""Whole experiments of the paper: their splits, and the script of their trainings."""
