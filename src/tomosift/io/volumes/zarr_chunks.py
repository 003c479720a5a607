"""Detection of zarr chunks that are cut short, for the one codec that does not detect them.

Blosc gets the address of a chunk but not its length. It decodes a chunk that is cut short together with the memory
after it, mostly without an error. Its header states the length: four bytes, little-endian, from the thirteenth on. All
other codecs detect a short chunk, and so does a shard, whose index at the end has a checksum.

Source: c-blosc, README_CHUNK_FORMAT.
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
    """A store of arrays compressed by Blosc; getting a chunk that is cut short raises ``ValueError``."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return the bytes of a chunk or of metadata; None where there are none."""
        value = await super().get(key, prototype, byte_range)
        if value is not None and byte_range is None and key.rpartition("/")[2] not in _METADATA:
            header = bytes(value[:HEADER_BYTES].to_bytes())
            stated = int.from_bytes(header[_LENGTH], "little") if len(header) == HEADER_BYTES else HEADER_BYTES
            if len(value) < stated:
                raise ValueError(f"chunk {key} has {len(value)} bytes of {stated}")
        return value


def with_whole_chunks(array: Any) -> Any:
    """Return the same array; reading a chunk that is cut short fails."""
    last = array.compressors[-1] if array.compressors else None
    blosc = isinstance(last, BloscCodec) or getattr(last, "codec_id", "") == "blosc"  # of zarr 3, or of zarr 2
    if not blosc or array.shards is not None:
        return array
    version = array.metadata.zarr_format
    return zarr.open_array(WholeBloscChunks(array.store), path=array.path, mode="r", zarr_format=version)
