"""Rules that are found: from the records of a source alone, without labels and without settings for its kind."""
