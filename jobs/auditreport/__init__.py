"""The monthly report for auditors: what was backed up, what was proven, what was checked; signed with the installation's key.

`content` collects the figures, `rendering` makes a page of them, `signing` signs it, `reporting` keeps the months' reports.
"""
