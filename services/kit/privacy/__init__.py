"""Personal data in text: where it is, and what is written in its place.

One library for whoever holds the bytes first: the gateway for requests, the log centre for lines.
"""
