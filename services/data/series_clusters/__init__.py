"""Series that are like each other, found by dynamic time warping."""
