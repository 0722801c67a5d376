"""Backup Center's own backup engine: standard restic repositories, read and written without restic.

It knows nothing of Django, Celery or the server. The format is specified in restic's design document
(https://restic.readthedocs.io/en/stable/100_references.html); docs/engine.md says which module holds which part of it.
"""

# Of everything in this checkout: engine, agent and server are released together.
__version__ = "0.1.0"
