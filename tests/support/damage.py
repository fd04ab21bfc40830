"""Damage to files, what reading them may not do, and the settings of hypothesis that all fuzzing shares."""

import io
import re
import struct
import zipfile
from contextlib import contextmanager
from pathlib import Path

import torch
from hypothesis import HealthCheck
from hypothesis import strategies as st

# the same examples in every run, so that a failure can be repeated
EXAMPLES = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}
MEMORY_ALLOWED = 300e6  # bytes above what the process had before
SIZE_FIELD = st.sampled_from([0, 1, 8, 2**31 - 1, 2**32 - 1, 2**40, 2**63, 2**64 - 1])


@st.composite
def damages(draw):
    """One to four edits of bytes, as a function of them."""
    kinds = ["flip", "cut", "insert", "remove", "double", "overwrite", "size"]
    edits = [(draw(st.sampled_from(kinds)), draw(st.integers(0, 2**16))) for _ in range(draw(st.integers(1, 4)))]
    values, sizes = [draw(st.binary(min_size=1, max_size=24)) for _ in edits], [draw(SIZE_FIELD) for _ in edits]

    def change(content):
        for (kind, place), value, size in zip(edits, values, sizes, strict=True):
            at = place % (len(content) + 1)
            before, chunk, after = content[:at], content[at : at + 8 * len(value)], content[at + 8 * len(value) :]
            content = {
                "flip": before + bytes([chunk[0] ^ value[0] if chunk else 0]) + chunk[1:] + after,
                "cut": before,
                "insert": before + value + chunk + after,
                "remove": before + after,
                "double": before + chunk + chunk + after,
                "overwrite": before + value + content[at + len(value) :],
                "size": content[: at // 8 * 8] + struct.pack("<Q", size) + content[at // 8 * 8 + 8 :],
            }[kind]
        return content

    return change


def saved(content, is_zip=True):
    """What ``torch.save`` writes, as bytes, in its zip format or its older one."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


def zipped(contents, compression=zipfile.ZIP_STORED):
    """A zip file, as bytes, of ``contents`` by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def unzipped(content):
    """The contents of a zip file by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def change_pickle(content, change):
    """The zip file of torch with its pickle changed, under right checksums."""
    return zipped({name: change(x) if name.endswith("data.pkl") else x for name, x in unzipped(content).items()})


def change_header(content, change):
    """The safetensors file with its header changed, under the right length."""
    (length,) = struct.unpack("<Q", content[:8])
    header = change(content[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def anywhere(content, change):
    """Change any bytes of the file."""
    return change(content)


def after_magic(content, change):
    """Change everything but the first bytes, by which a reader recognises the format."""
    return content[:9] + change(content[9:])


def memory(field):
    """Bytes that this process has (``VmRSS``) or had at most (``VmHWM``)."""
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


@contextmanager
def no_harm(folder, names):
    """Fail if anything but these names appears in the folder, or the process grows much."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    before = memory("VmRSS")
    yield
    assert {path.name for path in folder.iterdir()} <= names
    assert memory("VmHWM") - before < MEMORY_ALLOWED
