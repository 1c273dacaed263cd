#!/usr/bin/env python3
"""Draws a flame graph of what `perf script` prints: flame.py TITLE < script > graph.svg

Frames of less than a three-hundredth of the time are left out.
"""

import html
import itertools
import re
import sys
import zlib

WIDTH, ROW, HEAD, FONT = 1200, 15, 34, 10
SMALLEST = 1 / 300
# What every stack begins with, and what says nothing: left out, so that the rest has room.
EMPTY = re.compile(
    r"^(\[unknown\]|__?libc_start|_start$|start_thread|clone3?$|__clone|std::(sys|rt|thread|panic)|core::ops::function"
    r"|<?alloc::boxed::Box|main$|__rust_(begin|try)|entry_SYSCALL|do_syscall_64|x64_sys_call|core::panicking)"
)


def name_of(frame):
    """A frame's function, without what only compilers know of it."""
    text = re.sub(r"\+0x[0-9a-f]+$", "", frame)
    text = re.sub(r"::h[0-9a-f]{16}$|\[[0-9a-f]{16}\]", "", text)
    text = text.replace("{{closure}}", "{closure}").replace("::{closure#0}", "::{closure}")
    while True:
        # Generics tell little here and take much room.
        shorter = re.sub(r"(?<=[\w>])::<[^<>]*>|(?<=\w)<[^<>]*>", "", text)
        if shorter == text:
            return text
        text = shorter


def stacks(lines):
    """Of each sample, its frames from the outermost to the innermost; threads by their name first."""
    comm, frames = None, []
    for line in itertools.chain(lines, [""]):
        line = line.rstrip("\n")
        if not line.strip():
            if comm:
                yield [comm] + [frame for frame in reversed(frames) if not EMPTY.match(frame)]
            comm, frames = None, []
        elif line[0] not in " \t":
            comm = re.match(r"(.+?)\s+\d+(/\d+)?\s", line)
            comm = comm.group(1).strip() if comm else "?"
        else:
            fields = line.split(None, 1)
            if len(fields) == 2:
                frames.append(name_of(re.sub(r" \([^()]*\)$", "", fields[1])))


class Node:
    def __init__(self):
        self.count, self.below = 0, {}


def tree(all_stacks):
    root = Node()
    for stack in all_stacks:
        node = root
        node.count += 1
        for name in stack:
            node = node.below.setdefault(name, Node())
            node.count += 1
    return root


def boxes(node, name, x, depth, whole, out):
    """Of every frame that is large enough: depth, place and width in samples, and name."""
    out.append((depth, x, node.count, name))
    for below, child in sorted(node.below.items()):
        if child.count >= whole * SMALLEST:
            boxes(child, below, x, depth + 1, whole, out)
        x += child.count


def color(name):
    """The same for the same crate, the kernel's apart: warm for what is ours."""
    crate = re.split(r"::|\W", name.lstrip("<&"), maxsplit=1)[0]
    ours = crate.startswith("muster")
    kernel = "::" not in name and re.match(r"^[a-z_0-9.]+$", name)
    shade = zlib.crc32(crate.encode()) % 40
    if ours:
        return f"rgb({215 + shade},{110 + shade},60)"
    return f"rgb({170 + shade // 2},{175 + shade // 2},{190 + shade})" if kernel else f"rgb({225 + shade // 2},{190 + shade},{110 + shade})"


def shortened(name, room):
    """As much of a path's end as there is room for, by whole words if that is any."""
    words = name.split("::")
    while len(words) > 1 and len("::".join(words)) > room:
        words.pop(0)
    short = "::".join(words)
    return short if len(short) <= room else short[: room - 2] + ".."


def draw(title, root):
    out = []
    boxes(root, "all", 0, 0, root.count, out)
    depth = max(box[0] for box in out)
    height = HEAD + (depth + 1) * ROW + 6
    scale = (WIDTH - 10) / root.count
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
          f'font-family="sans-serif" font-size="{FONT}"><style>rect{{stroke:#fff;stroke-width:.5}}</style>'
          f'<path fill="#fff" d="M0 0h{WIDTH}v{height}H0z"/>'
          f'<text x="5" y="20" font-size="14">{html.escape(title)} ({root.count} samples)</text>')
    for level, x, count, name in out:
        left, width, top = 5 + x * scale, count * scale, height - 6 - (level + 1) * ROW
        label = html.escape(name)
        room = int(width / 5.6)
        text = ""
        if room >= 4:
            short = shortened(name, room)
            text = f'<text x="{left + 2:.1f}" y="{top + 11}">{html.escape(short)}</text>'
        print(f'<g><title>{label}: {count / root.count:.1%}</title>'
              f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{ROW}" fill="{color(name)}"/>{text}</g>')
    print("</svg>")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    root = tree(stacks(sys.stdin))
    if root.count == 0:
        sys.exit("flame.py: there are no samples")
    draw(sys.argv[1], root)


if __name__ == "__main__":
    main()
