"""The main job on real flights: raw data in, watched predictions out."""
