"""What inference does: keeps loaded what releases name, and answers."""
