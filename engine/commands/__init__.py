"""What can be done with a repository: a verb a file, each a plain function on an opened repository."""
