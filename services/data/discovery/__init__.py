"""Rules and joins that are found: from records alone, without labels and without settings for a kind of source."""
