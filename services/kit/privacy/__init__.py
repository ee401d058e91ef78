"""Personal data in texts: finds it, and replaces it. The gateway filters requests, the log centre records."""
