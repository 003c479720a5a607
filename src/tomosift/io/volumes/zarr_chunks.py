"""Chunks of zarr arrays that were cut short, told from whole ones where the codec cannot.

Blosc is handed the address of a chunk but not its length, so it decodes one that was cut short together with whatever
lies behind it in memory, and mostly without an error. Its header states the length: four bytes, little-endian, from the
thirteenth on (source: c-blosc, README_CHUNK_FORMAT). All other codecs notice by themselves, and so does a shard, whose
index at the end carries a checksum.
"""

from typing import Any

import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.codecs import BloscCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

HEADER_BYTES = 16
_LENGTH = slice(12, 16)
_METADATA = (".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json")


class WholeBloscChunks(WrapperStore[Store]):
    """A store of arrays compressed by Blosc; getting a chunk that was cut short raises ValueError."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The bytes of a chunk or of metadata; None where there are none."""
        value = await super().get(key, prototype, byte_range)
        if value is not None and byte_range is None and key.rpartition("/")[2] not in _METADATA:
            header = bytes(value[:HEADER_BYTES].to_bytes())
            stated = int.from_bytes(header[_LENGTH], "little") if len(header) == HEADER_BYTES else HEADER_BYTES
            if len(value) < stated:
                raise ValueError(f"chunk {key} has {len(value)} bytes of {stated}")
        return value


def with_whole_chunks(array: Any) -> Any:
    """The same array, of which a chunk that was cut short is never read as data."""
    last = array.compressors[-1] if array.compressors else None
    blosc = isinstance(last, BloscCodec) or getattr(last, "codec_id", "") == "blosc"  # of zarr 3, or of zarr 2
    if not blosc or array.shards is not None:
        return array
    version = array.metadata.zarr_format
    return zarr.open_array(WholeBloscChunks(array.store), path=array.path, mode="r", zarr_format=version)
