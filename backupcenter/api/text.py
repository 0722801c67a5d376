"""Text from elsewhere, such as the names of files, as the database can hold it."""


def storable(text: object) -> str:
    """Return `text` without what PostgreSQL refuses: NUL, and the lone surrogates of names that are not UTF-8."""
    return str(text).encode("utf-8", "replace").decode().replace("\0", "")
