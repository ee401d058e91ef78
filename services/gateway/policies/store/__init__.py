"""Policies in the gateway's database: versions and which of them is active, and a sample of decisions."""
