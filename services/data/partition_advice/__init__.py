"""Advises how data sets should be divided, from their rows, the machine and what was asked of them."""
