"""What is expected of the rows that new versions of a data set add, and what is done with those that break it."""
