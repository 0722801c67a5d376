"""The plan wizard: what, where, when, how long kept, what is run for it; and what that comes to before it is made."""
