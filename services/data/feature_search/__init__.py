"""Searches for steps that add to what the columns of a data set say about a label."""
