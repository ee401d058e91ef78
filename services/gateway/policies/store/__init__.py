"""Policies in the gateway's database: versions and which of them counts, and a sample of decisions."""
