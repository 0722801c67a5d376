"""The agent: what runs on each host that is backed up.

A Celery worker on its host's own queue, without Django and without a database. It fetches jobs from the server over HTTPS and
runs the engine in a child process.
"""
