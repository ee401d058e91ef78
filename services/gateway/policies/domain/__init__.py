"""Rules that refuse what roles permit: what they say, what they come to, and what about them is likely not meant."""
