"""Joins of features to rows, as they were known at the time of each row."""
