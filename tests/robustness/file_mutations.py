"""What can become of a file on its way: bytes flipped, cut and spliced, structures rewritten, numbers at their extremes."""

import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

TEXTS = (
    "",
    " ",
    "x" * 3000,
    "\ud800",
    "../x",
    "/etc/passwd",
    "a\nb",
    "<b>",
    "zero",
    "ffn",
    "nan",
    "Infinity",
    "1e999",
    "F64",
    "U8",
)
NUMBERS = (-1, 0, 1, 2, 7, 255, 2**15, 2**31, 2**63 - 1, 2**63, 2**64, 10**12, 10**30, -(10**12))
FLOATS = (0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"), float("-inf"))
RAW = (
    "[" * 100_000,
    '{"a":' * 5_000,
    "9" * 5_000,
    "-" + "9" * 60,
    "1e99999",
    "nul",
    "'a'",
    "[1,]",
    '"\\ud800"',
    '{"a":1,"a":2}',
)
"""Values that json.dumps does not write."""


def flipped(content: bytes, draws: random.Random) -> bytes:
    """Flip one to eight bits."""
    changed = bytearray(content)
    for _ in range(draws.randint(1, 8)):
        changed[draws.randrange(len(changed))] ^= 1 << draws.randrange(8)
    return bytes(changed)


def flipped_early(content: bytes, draws: random.Random) -> bytes:
    """Flip a bit in what comes first, where lengths are."""
    changed = bytearray(content)
    changed[draws.randrange(min(64, len(changed)))] ^= 1 << draws.randrange(8)
    return bytes(changed)


def truncated(content: bytes, draws: random.Random) -> bytes:
    """Lose the end, or the beginning."""
    place = draws.randrange(len(content))
    return content[:place] if draws.random() < 0.8 else content[place:]


def spliced(content: bytes, draws: random.Random) -> bytes:
    """Take bytes out, or put some in: others of the same file, zeros, ones or noise."""
    start, end = sorted(draws.randrange(len(content) + 1) for _ in range(2))
    end = min(end, start + 64)
    size = draws.choice((0, 1, 4, 8, 64, 4096))
    other = draws.randrange(len(content))
    new = draws.choice((content[other : other + size], bytes(size), b"\xff" * size, draws.randbytes(size)))
    return content[:start] + new + content[end:]


def extreme_word(content: bytes, draws: random.Random) -> bytes:
    """Write an extreme number over some bytes."""
    width = draws.choice((1, 2, 4, 8))
    word = draws.choice((bytes(width), b"\xff" * width, b"\x7f" + b"\xff" * (width - 1), b"\0\0\xc0\x7f\0\0\xf8\x7f"[:width]))
    place = draws.randrange(max(1, len(content) - width))
    return content[:place] + word + content[place + width :]


BYTES: tuple[Mutation, ...] = (flipped, flipped_early, truncated, spliced, extreme_word)


def restructured(value: Any, draws: random.Random) -> Any:
    """Change one place of a JSON value: another value, another type, one key more or less, or twice."""
    places = list(_places(value))
    if not places or draws.random() < 0.03:
        return _strange(draws)
    parent, key = draws.choice(places)
    choice = draws.randrange(6)
    if choice == 0 and isinstance(parent, dict):
        del parent[key]
    elif choice == 1 and isinstance(parent, dict):
        parent[draws.choice((*TEXTS, "steps", "format", "record"))] = parent.pop(key)
    elif choice == 2 and isinstance(parent, list):
        parent.insert(key, parent[key])
    elif choice == 3 and isinstance(parent, list):
        parent.pop(key)
    elif choice == 4:
        other, name = draws.choice(places)
        parent[key] = json.loads(json.dumps(other[name]))
    else:
        parent[key] = _strange(draws)
    return value


def _places(value: Any) -> Any:
    """All places in a value, each as its parent and its key there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


def _strange(draws: random.Random) -> Any:
    """A value that does not belong anywhere."""
    kind = draws.randrange(6)
    if kind == 0:
        return draws.choice(TEXTS)
    if kind == 1:
        return draws.choice(NUMBERS)
    if kind == 2:
        return draws.choice(FLOATS)
    if kind == 3:
        return f"\0raw{draws.randrange(len(RAW))}"
    return draws.choice((None, True, False, [], {}, [[]], {"": None}, [0] * 100, list(range(300)), "\ud800"))


def written(value: Any) -> bytes:
    """JSON in which the values of `RAW` stand as they are."""
    text = json.dumps(value)
    for number, raw in enumerate(RAW):
        text = text.replace(f'"\\u0000raw{number}"', raw)
    return text.encode()


def json_changed(content: bytes, draws: random.Random) -> bytes:
    """Change the structure of a JSON file."""
    return written(restructured(json.loads(content), draws))


def header_changed(content: bytes, draws: random.Random) -> bytes:
    """Change the header of a safetensors file, whose length stays right."""
    header, tensors = parted(content)
    return joined(restructured(header, draws), tensors)


def record_changed(content: bytes, draws: random.Random) -> bytes:
    """Change the record in the header of a safetensors file."""
    header, tensors = parted(content)
    metadata = header["__metadata__"]
    metadata["record"] = written(restructured(json.loads(metadata["record"]), draws)).decode("utf-8", "surrogatepass")
    return joined(header, tensors)


def dtype_changed(content: bytes, draws: random.Random) -> bytes:
    """Read a tensor's bytes as another dtype, with a shape that fits."""
    header, tensors = parted(content)
    name = draws.choice([name for name in header if name != "__metadata__"])
    start, end = header[name]["data_offsets"]
    dtype, size = draws.choice((("U8", 1), ("I8", 1), ("BOOL", 1), ("F16", 2), ("I16", 2), ("F32", 4), ("I64", 8), ("F64", 8)))
    shape = draws.choice(([(end - start) // size], [1, (end - start) // size], [(end - start) // size, 1, 1]))
    header[name] |= {"dtype": dtype, "shape": shape}
    return joined(header, tensors)


def tensor_changed(content: bytes, draws: random.Random) -> bytes:
    """Write NaN, infinity, -1, 7 or noise over a part of the tensors."""
    header, tensors = parted(content)
    word = draws.choice(
        (b"\0\0\0\0\0\0\xf8\x7f", b"\0\0\xc0\x7f", b"\0\0\0\0\0\0\xf0\x7f", b"\xff" * 8, b"\x07", draws.randbytes(8))
    )
    place = draws.randrange(max(1, len(tensors))) // len(word) * len(word)
    return joined(header, tensors[:place] + word + tensors[place + len(word) :])


def parted(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the tensors of a safetensors file."""
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def joined(header: Any, tensors: bytes) -> bytes:
    """A safetensors file."""
    text = written(header)
    return len(text).to_bytes(8, "little") + text + tensors


SAFETENSORS: tuple[Mutation, ...] = (*BYTES, header_changed, header_changed, dtype_changed, tensor_changed)
RECORDED: tuple[Mutation, ...] = (*SAFETENSORS, record_changed, record_changed)
JSON: tuple[Mutation, ...] = (*BYTES, json_changed, json_changed, json_changed, json_changed)


def pickle_changed(content: bytes, draws: random.Random) -> bytes:
    """Change the pickle, or one tensor, inside a file of torch.save, whose checksums stay right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {one.filename: archive.read(one) for one in archive.infolist()}
    name = draws.choice([name for name in entries if name.endswith("data.pkl")] * 3 + list(entries))
    entries[name] = draws.choice(BYTES)(entries[name] or b"\0", draws)
    new = io.BytesIO()
    with zipfile.ZipFile(new, "w", draws.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for entry, inner in entries.items():
            archive.writestr(entry, inner)
    return new.getvalue()


PICKLED: tuple[Mutation, ...] = (*BYTES, pickle_changed, pickle_changed, pickle_changed)
