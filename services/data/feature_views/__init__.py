"""The feature store: the newest features of entities, materialised from data sets and read by key."""
