"""The cause of a failure as Flink's Java clients read it: JSON that holds an exception in Java's serial form. Pure.

The exception is Flink's own `SerializedThrowable`, which prints a text in place of a stack trace. The bytes follow
chapter 6 of the Java Object Serialization Specification. Fields that are left out get their default value, null.
"""

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

CLASS = "org.apache.flink.util.FlinkException"
MOST_CHARACTERS = 10_000  # a string of the serial form has at most 65,535 bytes

_STREAM = bytes.fromhex("aced0005")
_NULL, _REFERENCE, _CLASS, _OBJECT, _STRING, _END = b"\x70", b"\x71", b"\x72", b"\x73", b"\x74", b"\x78"
_FIRST_HANDLE = 0x7E0000
_TEXT_TYPE = "Ljava/lang/String;"
_SERIALIZABLE, _HAS_WRITE_METHOD = 2, 1


class _JavaClass(NamedTuple):
    name: str
    serial_version: int
    flags: int
    #: its fields, all of them strings
    fields: Sequence[str]


_CLASSES = (  # each is the superclass of the one before
    _JavaClass(
        "org.apache.flink.util.SerializedThrowable",
        7284183123441947635,
        _SERIALIZABLE,
        ("fullStringifiedStackTrace", "originalErrorClassName"),
    ),
    _JavaClass("java.lang.Exception", -3387516993124229948, _SERIALIZABLE, ()),
    _JavaClass("java.lang.Throwable", -3042686055658047285, _SERIALIZABLE | _HAS_WRITE_METHOD, ("detailMessage",)),
)


def failure_cause(reason: str) -> Mapping[str, str]:
    """The value of `failure-cause` for a reason in plain words."""
    shown = reason[:MOST_CHARACTERS]
    serialized = base64.b64encode(serialized_throwable(shown)).decode()
    return {"class": CLASS, "message": shown, "stack-trace": shown, "serialized-throwable": serialized}


def serialized_throwable(reason: str) -> bytes:
    """A SerializedThrowable that prints the reason."""
    values = {"detailMessage": reason, "fullStringifiedStackTrace": f"{reason}\n", "originalErrorClassName": CLASS}
    written = _STREAM + _OBJECT
    type_handle: int | None = None
    for number, one in enumerate(_CLASSES):
        written += _CLASS + _text(one.name) + struct.pack(">qBH", one.serial_version, one.flags, len(one.fields))
        for name in one.fields:
            written += b"L" + _text(name)
            if type_handle is None:  # the first class description has the first handle, the type's name the next one
                written += _STRING + _text(_TEXT_TYPE)
                type_handle = _FIRST_HANDLE + number + 1
            else:
                written += _REFERENCE + struct.pack(">I", type_handle)
        written += _END
    written += _NULL
    for one in reversed(_CLASSES):
        written += b"".join(_STRING + _text(values[name]) for name in one.fields)
        if one.flags & _HAS_WRITE_METHOD:
            written += _END
    return written


def _text(text: str) -> bytes:
    """Java's modified UTF-8: without NUL, and without characters that need two of Java's."""
    encoded = "".join(" " if one == "\0" or ord(one) > 0xFFFF else one for one in text).encode(errors="replace")
    return struct.pack(">H", len(encoded)) + encoded
