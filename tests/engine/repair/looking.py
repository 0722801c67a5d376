"""Looking into a repository that is damaged, and damaging it."""

import os

from engine.backends import open_store
from engine.blob import BlobType
from engine.commands.check import check
from engine.commands.ls import find_node
from engine.commands.snapshots import list_snapshots
from engine.repository import Repository
from tests.engine.conftest import PASSWORD
from tests.engine.damage import flip_bit


def opened(location):
    return Repository.open(open_store(str(location)), PASSWORD)


def indexed(location):
    repository = opened(location)
    repository.load_index()
    return repository


def problems(location, **options):
    return check(opened(location), **options).problems


def blobs(location):
    index = indexed(location).index
    return {(kind, blob_id): place for kind in BlobType for blob_id, place in index.blobs(kind)}


def pack_path(location, pack_id):
    return location / "data" / pack_id.hex()[:2] / pack_id.hex()


def place_of_tree(location, path):
    """Where the tree of a directory of the newest snapshot lies."""
    repository = indexed(location)
    snapshot = list_snapshots(repository)[-1]
    tree = find_node(repository, snapshot, os.fsencode(path)).subtree if path else snapshot.tree
    return repository.index.find(BlobType.TREE, tree)


def damage_tree(location, path=""):
    place = place_of_tree(location, path)
    flip_bit(pack_path(location, place.pack_id), place.offset + 20)
