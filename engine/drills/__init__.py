"""What restore drills have in common wherever they are done: what is chosen, and the scratch directory that it is restored to."""
