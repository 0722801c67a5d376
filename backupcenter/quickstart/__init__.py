"""`./quickstart`: a whole Backup Center on one machine, and the proof that it works.

`installation` lays down what stays (keys, database, administrator), `processes` starts and stops the programs, `story`
walks through a backup and its restore over the public REST API as any user would, `__main__` is the command line.
"""
