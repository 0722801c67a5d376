"""Key files: the repository's master keys, sealed under a password.

A repository may have several, one per password. Each is a JSON file in `keys/`, named by its SHA-256.
Specified in restic's design document, "Keys, Encryption and MAC".
"""

import base64
import getpass
import hashlib
import json
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from engine.crypto import KeyMaterial, SealingKey
from engine.errors import DataDamaged, FileMissing, RepositoryNotFound, TooLarge, WrongPassword
from engine.gotime import format_time
from engine.store import FileKind, Store

# 32 MiB and about a tenth of a second. restic has the same, times what takes its machine half a second.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 15, 8, 1
# A key file may ask for more than ours: restic's for up to 60 MiB, rustic's for 128 MiB.
SCRYPT_MEMORY_LIMIT = 256 << 20
# Work (N·r·p) is counted in tenths of a second, about: restic's keys take 5. What one file may ask for, and what all of them may.
WORK_UNIT = 1 << 18
WORK_LIMIT, WORK_LIMIT_OF_ALL = 64, 256
SALT_SIZE = 64

DerivedKeys = dict[str, str]
"""What scrypt made of passwords, for those who open repositories again and again; to be kept in memory alone.

Each stands, as 128 hexadecimal digits, under a hash of all that it was made from: another password, or a key file that was made
anew for it, is another entry.
"""


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """A key file that the password opened. `name`: its file name."""

    name: str
    material: KeyMaterial


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file as it is stored: when (as it says) and for whom it was made, and the master keys under a password."""

    created: str
    username: str
    hostname: str
    n: int
    r: int
    p: int
    salt: bytes
    data: bytes

    @classmethod
    def parse(cls, content: bytes) -> "KeyFile":
        """Raises DataDamaged."""
        try:
            fields = json.loads(content)
            salt, data = base64.b64decode(fields["salt"]), base64.b64decode(fields["data"])
            created, username, hostname = (str(fields.get(name) or "") for name in ("created", "username", "hostname"))
            return cls(created, username, hostname, *_costs(fields), salt, data)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise DataDamaged("a key file is damaged") from error

    @property
    def work(self) -> float:
        """How much work it is to try a password, in units."""
        return self.n * self.r * self.p / WORK_UNIT

    def open(self, password: str, derived: DerivedKeys | None = None) -> KeyMaterial | None:
        """Return the master keys, None if this is another password. Raises DataDamaged if there are none inside.

        What is in `derived` is not derived again, and what opens the file is added.
        """
        origin = hashlib.sha256(repr((password, self.salt, self.n, self.r, self.p)).encode()).hexdigest()
        known = derived.get(origin) if derived else None
        if known is not None:
            user_key = KeyMaterial.of(bytes.fromhex(known))
        else:
            user_key = KeyMaterial.derive(password, self.salt, self.n, self.r, self.p)
        try:
            content = SealingKey(user_key).open(self.data)
        except DataDamaged:
            return None
        if derived is not None:
            derived[origin] = user_key.raw().hex()
        return _material(content)


def add_key(store: Store, password: str, material: KeyMaterial, *, username: str = "", hostname: str = "") -> OpenedKey:
    """Write a key file which opens `material` with `password`; without names, for this user on this host."""
    salt = os.urandom(SALT_SIZE)
    lock = SealingKey(KeyMaterial.derive(password, salt, SCRYPT_N, SCRYPT_R, SCRYPT_P))
    master = {
        "mac": {"k": _base64(material.mac_k), "r": _base64(material.mac_r)},
        "encrypt": _base64(material.encrypt),
    }
    content = json.dumps(
        {
            "created": format_time(datetime.now(UTC)),
            "username": username or user_name(),
            "hostname": hostname or platform.node(),
            "kdf": "scrypt",
            "N": SCRYPT_N,
            "r": SCRYPT_R,
            "p": SCRYPT_P,
            "salt": _base64(salt),
            "data": _base64(bytes(lock.seal(json.dumps(master).encode()))),
        }
    ).encode()
    name = hashlib.sha256(content).hexdigest()
    store.put(FileKind.KEYS, name, content)
    return OpenedKey(name, material)


def open_key(store: Store, password: str, derived: DerivedKeys | None = None) -> OpenedKey:
    """Return the first key that `password` opens. Raises WrongPassword, RepositoryNotFound, DataDamaged.

    TooLarge if there are so many keys, or they ask for so much work, that it would take very long to try them all.

    `derived` as in `KeyFile.open`.
    """
    names = [name for name, _ in store.list(FileKind.KEYS)]
    if not names:
        raise RepositoryNotFound(f"there is no repository at {store.location}")
    damaged = 0
    work = 0.0
    for name in sorted(names):
        try:
            key_file = KeyFile.parse(store.get(FileKind.KEYS, name))
        except DataDamaged:
            damaged += 1
            continue
        except FileMissing:
            # It was removed since the keys were listed.
            continue
        # Those that ask for little must be read all the same.
        work += max(1, key_file.work)
        if work > WORK_LIMIT_OF_ALL:
            raise TooLarge(f"the {len(names)} keys of the repository at {store.location} are too much work to try")
        material = key_file.open(password, derived)
        if material is not None:
            return OpenedKey(name, material)
    if damaged == len(names):
        raise DataDamaged(f"the key files of {store.location} are damaged")
    raise WrongPassword(f"no key of the repository at {store.location} opens with this password")


def user_name() -> str:
    """Return the name of the user whom this process runs as, or their number if they have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _costs(fields: dict[str, Any]) -> tuple[int, int, int]:
    n, r, p = int(fields["N"]), int(fields["r"]), int(fields["p"])
    is_power = n > 1 and n & (n - 1) == 0
    if fields["kdf"] != "scrypt" or not is_power or r < 1 or p < 1:
        raise ValueError("unusable key derivation")
    if 128 * r * (n + p) > SCRYPT_MEMORY_LIMIT or n * r * p > WORK_LIMIT * WORK_UNIT:
        raise ValueError("absurd key derivation")
    return n, r, p


def _material(content: bytes) -> KeyMaterial:
    try:
        master = json.loads(content)
        material = KeyMaterial(
            base64.b64decode(master["encrypt"]),
            base64.b64decode(master["mac"]["k"]),
            base64.b64decode(master["mac"]["r"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataDamaged("a key file holds no keys") from error
    if (len(material.encrypt), len(material.mac_k), len(material.mac_r)) != (32, 16, 16):
        raise DataDamaged("a key file holds keys of a wrong size")
    return material


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
