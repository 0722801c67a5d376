"""The audit log: who did what, from where, to which objects, and what came of it.

`acts` gathers what happens during a request or a command, `requests` and `commands` say when one begins and ends, `export` hands
the log out. Entries are only ever added: the model, the database's own triggers (`append_only`), the API and the console refuse the
rest, until an entry is older than the settings keep it.
"""
