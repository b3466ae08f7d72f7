"""Bulk writes that are fast when rows are good and exact about each item when they are not."""

import logging

from batchwrite.batch import Batch, ItemStream
from batchwrite.batched import batched
from batchwrite.bookkeeping import IdempotencyKey
from batchwrite.coalescer import Coalescer, SubmittedItem
from batchwrite.collector import Collector
from batchwrite.errors import (
    BatchFailed,
    BatchWriteError,
    CoalescerClosed,
    ConfigurationError,
    ItemRefused,
    LedgerMismatch,
    QueueFull,
    RunInterrupted,
    SourceError,
)
from batchwrite.faults import Fault, FaultKind
from batchwrite.letters import DeadLetterFile, DeadLetters, Letter, ReadLetter
from batchwrite.listeners import (
    ChunkDetails,
    FailureDetails,
    FallbackDetails,
    Listener,
    LoggingListener,
    RetryDetails,
    SlowPathDetails,
)
from batchwrite.meter import WriterStats
from batchwrite.result import (
    Abort,
    BatchResult,
    EarlierStarts,
    FailureReason,
    ItemFailure,
    ItemOutcome,
    OutcomeStatus,
    Stage,
    Status,
)
from batchwrite.resume import SeekableSource
from batchwrite.retry import RetryPolicy
from batchwrite.sinks.ledger import Ledger
from batchwrite.sinks.repository import Repository
from batchwrite.sinks.told import PartialFailure
from batchwrite.writer import BatchWriter

# A library does not write to stderr of its own accord: its log goes where the program sends it.
logging.getLogger("batchwrite").addHandler(logging.NullHandler())

__version__ = "0.1.0"

__all__ = [
    "Abort",
    "Batch",
    "BatchFailed",
    "BatchResult",
    "BatchWriteError",
    "BatchWriter",
    "ChunkDetails",
    "Coalescer",
    "CoalescerClosed",
    "Collector",
    "ConfigurationError",
    "DeadLetterFile",
    "DeadLetters",
    "EarlierStarts",
    "FailureDetails",
    "FailureReason",
    "FallbackDetails",
    "Fault",
    "FaultKind",
    "IdempotencyKey",
    "ItemFailure",
    "ItemOutcome",
    "ItemRefused",
    "ItemStream",
    "Ledger",
    "LedgerMismatch",
    "Letter",
    "Listener",
    "LoggingListener",
    "OutcomeStatus",
    "PartialFailure",
    "QueueFull",
    "ReadLetter",
    "Repository",
    "RetryDetails",
    "RetryPolicy",
    "RunInterrupted",
    "SeekableSource",
    "SlowPathDetails",
    "SourceError",
    "Stage",
    "Status",
    "SubmittedItem",
    "WriterStats",
    "batched",
]
