"""Recipes: ordered steps that make a clean version of a data set, and what each of them did."""
