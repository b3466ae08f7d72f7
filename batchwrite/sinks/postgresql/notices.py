"""What the server says, unasked, beside its answer to COMMIT."""

from __future__ import annotations

from typing import Any

_WARNINGS = "01"  # the class of their SQLSTATEs


def leaves_doubt(notice: Any) -> bool:
    """Whether a notice (psycopg's `Diagnostic`) beside the answer to COMMIT says that what is committed may be lost.

    A COMMIT whose wait for a synchronous standby is cancelled (by anybody, or by statement_timeout) is answered as if
    nothing had been, with a warning. Its words depend on the server's language, so that any warning will do, but for
    those that a function RAISEs (a constraint trigger that waits for COMMIT, say).
    """
    is_warning = (notice.sqlstate or "").startswith(_WARNINGS)
    return is_warning and notice.source_function != "exec_stmt_raise"
