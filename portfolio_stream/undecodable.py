"""What decoding a stranger's bytes with msgspec may raise; apart, so that a command's `--help` need not import msgspec.

Who catches only msgspec's own errors is ended by a text that is no UTF-8.
"""

import msgspec

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
