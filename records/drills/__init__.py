"""Restore drills: the newest backup of a plan is restored to a scratch directory of the server, compared, timed and removed.

`choosing` says what is restored, `scratch` where, `restoring` does it as an agent would, `command` lets the user's own command
look at it, and `drilling` ties them together and keeps the evidence.
"""
