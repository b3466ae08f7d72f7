"""What a writer hands to each of its runs: bounds and policies. Pure, but for the retry policy's tenacity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batchwrite.chunk import ChunkLimits
from batchwrite.errors import ConfigurationError
from batchwrite.host import BLOCKING, Host
from batchwrite.listeners import Listeners
from batchwrite.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

# More connections than this keep no database busier.
_MOST_WORKERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """When failing items end a run.

    Attributes:
        most: Number of failed items that a run survives; one more ends it. `None` for no such bound, 0 to stop at
            the first.
        ratio: Share of failed items, of those decided, that a run survives; looked at after each chunk. `None` for
            no such bound.
    """

    most: int | None = None
    ratio: float | None = None

    def __post_init__(self) -> None:
        if self.most is not None and (isinstance(self.most, bool) or not isinstance(self.most, int) or self.most < 0):
            raise ConfigurationError("max_failures must be a whole number of at least 0, or None")
        if self.ratio is not None and not 0 <= self.ratio <= 1:
            raise ConfigurationError("max_failure_ratio must be between 0 and 1, or None")

    def allows(self, failed: int) -> bool:
        """Whether a run may go on after that many failed items."""
        return self.most is None or failed <= self.most

    def end_of(self, count: int, failures: Collection[int], failed: int) -> int:
        """How many items of a chunk are decided before failures, as far as they are known, end the run.

        Args:
            count: Number of items of the chunk.
            failures: Positions of those that have failed.
            failed: Number of items that have failed before the chunk.
        """
        last = self.last_failure(failed)
        if last is None or len(failures) < last:
            return count
        return sorted(failures)[last - 1] + 1

    def last_failure(self, failed: int) -> int | None:
        """With how many more failures a run ends, after that many; `None` for never."""
        return None if self.most is None else max(self.most - failed + 1, 1)

    def allows_share(self, failed: int, decided: int) -> bool:
        """Whether a run may go on after a chunk."""
        return self.ratio is None or failed <= self.ratio * decided


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What a writer hands to each of its runs.

    Attributes:
        limits: Bounds of a chunk.
        policy: When failures end a run.
        retry: When a chunk is tried again.
        keep_failures: Most failures that a result holds.
        workers: Most chunks on their way.
        defer_foreign_keys: Whether items that miss a row that they refer to are tried once more at the end.
        key: Gives the idempotency key of an item, or `None` for an item that has none.
        host: How those who run a run wait.
        listeners: Told of what happens.
    """

    limits: ChunkLimits = field(default_factory=ChunkLimits)
    policy: FailurePolicy = field(default_factory=FailurePolicy)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    keep_failures: int = 1_000
    workers: int = 1
    defer_foreign_keys: bool = False
    key: Callable[[Any], Any] | None = None
    host: Host = BLOCKING
    listeners: Listeners = field(default_factory=Listeners)

    def __post_init__(self) -> None:
        if not isinstance(self.retry, RetryPolicy):
            raise ConfigurationError(f"retry must be a RetryPolicy, not a {type(self.retry).__name__}")
        workers = self.workers
        if isinstance(workers, bool) or not isinstance(workers, int) or not 0 <= workers <= _MOST_WORKERS:
            raise ConfigurationError(f"workers must be a whole number from 0 to {_MOST_WORKERS}")
        if self.keep_failures < 0:
            raise ConfigurationError("keep_failures must be at least 0")
