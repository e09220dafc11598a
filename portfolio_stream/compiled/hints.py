"""What the compiler is told of a class. The interpreter does not hear it, so the modules run without the compiler."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**_attributes: Any) -> Any:
        return lambda cls: cls
