"""animate.py FILM FOLDER: makes one moving PNG, as every browser shows it, of the PNGs of a folder in the order of their names.

The pictures have the same size and kind. Nothing is decoded: what each has between its chunks is put together anew
(https://www.w3.org/TR/png-3/, "APNG").
"""

import pathlib
import struct
import sys
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
FRAMES_PER_SECOND = 12


def chunks(data):
    """The kind and the content of each chunk of a PNG."""
    at = len(SIGNATURE)
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def animate(pictures):
    header = None
    number = 0
    body = b""
    for index, picture in enumerate(pictures):
        data = picture.read_bytes()
        assert data.startswith(SIGNATURE), f"{picture} is no PNG"
        parts = list(chunks(data))
        own = next(content for kind, content in parts if kind == b"IHDR")
        header = header or own
        assert own == header, f"{picture} has another size or kind than the first one"
        size = own[:8]
        body += chunk(b"fcTL", struct.pack(">I", number) + size + struct.pack(">IIHHBB", 0, 0, 1, FRAMES_PER_SECOND, 0, 0))
        number += 1
        for content in (content for kind, content in parts if kind == b"IDAT"):
            if index == 0:
                body += chunk(b"IDAT", content)
            else:
                body += chunk(b"fdAT", struct.pack(">I", number) + content)
                number += 1
    film = chunk(b"acTL", struct.pack(">II", len(pictures), 0))
    return SIGNATURE + chunk(b"IHDR", header) + film + body + chunk(b"IEND", b"")


target, folder = sys.argv[1:]
pictures = sorted(pathlib.Path(folder).glob("*.png"))
assert pictures, f"there is no picture in {folder}"
pathlib.Path(target).write_bytes(animate(pictures))
print(f"{target}: {len(pictures)} frames")
