"""What traffic means: which version answers, and what a version takes."""
