"""Hostile bytes at the HTTP door: requests torn apart, framings that two readers may read in two ways."""
