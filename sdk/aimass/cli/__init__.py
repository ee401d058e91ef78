"""The command line of AI Mass."""

from aimass.cli.main import main

__all__ = ["main"]
