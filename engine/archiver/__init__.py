"""From directories to a tree in a repository.

    Archiver (one loop) ──directory──> worker processes: list, compare with the parent snapshot, read small files, pack
             │  ^                            │ "which of these blobs are new?" / packs that are stored / entries
             │  └────────────────────────────┘
             └──large file, stream──> threads: read, cut into chunks, hash, compress, seal ──> the repository's writer

A directory's tree is written when its last entry is known, depth first, so that only the open directories are held.
`archiver` is the loop, `workers` starts and watches the processes, `worker` is what runs in one, `directory` lists a directory,
`batch` reads and packs small files, `large` reads large ones, both by `reading`, and what the commands of `streams` write;
`messages` is what the archiver and its workers say to each other, `targets` arranges the paths of a backup, `estimate` counts
ahead how much there is to read.
"""
