"""Writing rows of one table: what most workloads are."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from batchwrite.bench import ours
from batchwrite.bench.peers_postgresql import COPY
from batchwrite.bench.rows import Rows, lines
from batchwrite.bench.tables import lines_table
from batchwrite.bench.task import Task
from batchwrite.bench.timing import Comparison

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import MetaData, Table

    from batchwrite.bench.peers import Peer
    from batchwrite.bench.place import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsOfOneTable:
    """A comparison of writing rows of one table.

    Attributes:
        place: Where.
        count: How many rows a contender with a full share gets.
        make_table: Defines the table; invoice lines by default.
        make_rows: Makes so many rows.
        counters: What is to be counted meanwhile.
        options: Our writer's.
    """

    place: Place
    count: int
    make_table: Callable[[Place, MetaData], Table] = lines_table
    make_rows: Callable[[int], Rows] = lines
    counters: Mapping[str, Callable[[], int]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def comparison(self, name: str, peers: Sequence[Peer], baseline: str | None = COPY.name) -> Comparison:
        """Ours and the peers."""
        metadata = self.place.metadata()
        table = self.make_table(self.place, metadata)
        by_share: dict[float, tuple[Task, Rows]] = {}
        for share in {1.0, *(peer.share for peer in peers)}:
            rows = self.make_rows(max(2, round(self.count * share)))
            by_share[share] = Task.of(self.place, metadata, {table: rows.good}, self.counters), rows
        task, rows = by_share[1.0]
        mine = ours.contenders(task, rows.items, partial(ours.inserting, table), len(rows.good), **self.options)
        others = [peer.contender(by_share[peer.share][0], table, by_share[peer.share][1]) for peer in peers]
        return Comparison(name=name, contenders=[*mine, *others], baseline=baseline)
