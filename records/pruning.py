"""When a prune pays: by what it would give back, and by what it would have to write again for that, both measured beforehand.

A prune first looks: it reads the index and the trees of all snapshots, under a lock beside which backups go on. What it has seen
is judged here, before anything is written (`engine.commands.prune.PruneOptions.pays`).
"""

from engine.pruning import ByteCounts

# Of all that is stored, so much at least must come back, for the exclusive lock and the index that is written anew.
LEAST_SHARE = 0.01
# For each byte that comes back so many are read and written again at most, with which the time goes (docs/evidence.md). Of 50
# snapshots, keeping every fifth took 1.2, keeping the newest ten 0.1.
REWRITTEN_AT_MOST = 5


def pays(sizes: ByteCounts) -> bool:
    """Return whether a prune that was planned with these sizes gives back enough for what it costs."""
    gain = sizes.remove_total
    rewritten = sizes.repack - sizes.repack_remove
    return gain > 0 and gain >= LEAST_SHARE * sizes.total and rewritten <= REWRITTEN_AT_MOST * gain
