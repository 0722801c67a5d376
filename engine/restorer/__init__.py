"""Bringing a snapshot back to disk.

`target` makes and opens entries without ever leaving the place that is restored to, `plan` walks the snapshot's trees and
decides what is to be done, `pieces` reads packs and writes contents, `workers` has that done by threads or processes.
`engine.commands.restore` puts them together.
"""
