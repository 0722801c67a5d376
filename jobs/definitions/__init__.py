"""Plans' definitions in the repositories that they back up into: what they are, when they are written, and how they are read."""
