"""Hints for the compiler about classes and numbers. At run time they do nothing, so the modules run without mypyc.

`i64` is an integer of a register. Only numbers that are proven to be smaller may have this type.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_extensions import i64 as i64
    from mypy_extensions import mypyc_attr as mypyc_attr
else:
    i64 = int

    def mypyc_attr(**_attributes: Any) -> Any:
        return lambda cls: cls
