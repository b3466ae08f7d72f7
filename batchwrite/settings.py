"""What a writer hands to each of its runs: bounds and policies. Pure, but for the retry policy's tenacity."""

from __future__ import annotations

from dataclasses import dataclass, field

from batchwrite.chunk import ChunkLimits
from batchwrite.errors import ConfigurationError
from batchwrite.retry import RetryPolicy


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

    def allows_share(self, failed: int, decided: int) -> bool:
        """Whether a run may go on after a chunk."""
        return self.ratio is None or failed <= self.ratio * decided


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What a writer hands to each of its runs."""

    limits: ChunkLimits = field(default_factory=ChunkLimits)
    policy: FailurePolicy = field(default_factory=FailurePolicy)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    keep_failures: int = 1_000
    workers: int = 1
