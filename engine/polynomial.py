"""The chunker polynomial that every repository's configuration carries.

FastCDC does not use it (`rabin` does), but restic refuses a repository whose polynomial is reducible. Polynomials over GF(2) are
integers here, bit i the coefficient of x^i. The test is Rabin's: f of prime degree n is irreducible if and only if
x^(2^n) = x modulo f and f has no root. Specified in restic's design document, "Backups and Deduplication".
"""

import secrets

DEGREE = 53


def random_irreducible() -> int:
    """Return a random irreducible polynomial of degree 53."""
    while True:
        candidate = (1 << DEGREE) | secrets.randbits(DEGREE) | 1
        if is_irreducible(candidate):
            return candidate


def is_irreducible(polynomial: int) -> bool:
    """Return whether a polynomial of degree 53 (a prime) is irreducible."""
    if polynomial >> DEGREE != 1 or not polynomial & 1 or not polynomial.bit_count() & 1:
        return False
    power = 2
    for _ in range(DEGREE):
        power = _square_modulo(power, polynomial)
    return power == 2


def modulo(value: int, modulus: int) -> int:
    """Return the remainder of a polynomial after division by one of degree 53."""
    for bit in range(value.bit_length() - 1, DEGREE - 1, -1):
        if value >> bit & 1:
            value ^= modulus << bit - DEGREE
    return value


def _square_modulo(value: int, modulus: int) -> int:
    square = 0
    for bit in range(value.bit_length()):
        if value >> bit & 1:
            square |= 1 << 2 * bit
    return modulo(square, modulus)
