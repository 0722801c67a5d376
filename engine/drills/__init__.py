"""What restore drills have in common wherever they are done: what is chosen, and the scratch directory that it is restored to."""

# What the engine says of owners and attributes that it could not set begins so; of content it is something else.
METADATA = "metadata: "
