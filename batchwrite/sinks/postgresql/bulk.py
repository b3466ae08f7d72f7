"""The steps of a plan as few statements over arrays of texts, and as COPY.

Arrays, and not a temporary table: measured for chunks of 1,000 and 5,000 rows of nine columns, INSERT … SELECT FROM
unnest() writes 88,000 and 95,000 rows/s where COPY into a temporary table and INSERT … SELECT from there write 69,000
and 110,000; and arrays need no right to make tables, no DDL, and no round trip of their own.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from batchwrite.errors import ItemRefused
from batchwrite.plan import each_key_once
from batchwrite.sinks.postgresql.names import EQUALS, PLUS, TEXT, rows_of
from batchwrite.sinks.postgresql.tables import require_fast
from batchwrite.sinks.postgresql.texts import NoFastPath, array_literal, copy_rows
from batchwrite.sinks.postgresql.wire import Statement
from batchwrite.sinks.sql import FailedAt
from batchwrite.write import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from psycopg.abc import Transformer

    from batchwrite.plan import Block, Plan, Probe
    from batchwrite.sinks.postgresql.tables import FastTable
    from batchwrite.sinks.postgresql.texts import Texts
    from batchwrite.table import TableInfo
    from batchwrite.write import Write

# COPY costs two round trips more than a statement over arrays: below so many rows that is dearer than what it saves.
_FEWEST_FOR_COPY = 100

# Rows of COPY data that are written and sent at a time: the server reads them while the next are written.
_ROWS_OF_A_PIECE = 500


# What changes rows, and so locks them. (A DELETE does too, but SELECT … FOR UPDATE would need one more right.)
_LOCKED = frozenset({Kind.UPSERT, Kind.UPDATE, Kind.INCREMENT})


class Copied(NamedTuple):
    """A COPY.

    Attributes:
        table: Where to.
        sql: The statement.
        pieces: Its data.
    """

    table: TableInfo
    sql: bytes
    pieces: Iterator[bytes]


class Executed(NamedTuple):
    """A statement over arrays.

    Attributes:
        table: The table concerned.
        statement: The statement.
        must_be_empty: What it means, if so, that it returns rows.
    """

    table: TableInfo
    statement: Statement
    must_be_empty: str | None = None


class BulkWriter:
    """Turns plans into what is sent.

    Args:
        table: Gives the table to write to.
        transformer: Psycopg's, of the connection.
        check: Refuses values that the database would store as something else.
        note_slow: Told for which table COPY cannot serve, and why.
    """

    def __init__(
        self,
        table: Callable[[TableInfo], FastTable],
        transformer: Transformer,
        check: Callable[[Block], None],
        note_slow: Callable[[TableInfo, str], None],
    ) -> None:
        self._table = table
        self._transformer = transformer
        self._encoding = transformer.encoding
        self._check = check
        self._note_slow = note_slow

    def parts(self, plan: Plan) -> list[Copied | Executed]:
        """What carries out a plan, in order.

        Raises:
            NoFastPath: It can only be carried out by SQLAlchemy.
            ItemRefused: A value is none that the database could store as it is.
            Exception: Whatever the conversion of a value raises.
        """
        changes = [step for segment in plan.segments for step in segment.steps if step.kind in _LOCKED]
        parts: list[Copied | Executed] = []
        if len(changes) > 1 or any(step.block is None for step in changes):  # or else it is one statement
            parts += self.locks([step.writes for step in changes], fewest_statements=2)
        for segment in plan.segments:
            parts += map(self._probe, segment.probes)
            for step in segment.steps:
                for block in step.blocks():
                    require_fast(block, is_ordered=step.is_ordered)
                    self._check(block)
                    parts.append(self._part(block))
        return parts

    def _part(self, block: Block) -> Copied | Executed:
        kind = block.writes[0].kind
        try:
            if kind is Kind.INSERT:
                return self._insert(block)
            if kind is Kind.UPSERT:
                return self._upsert(block)
            return self._change(block)
        except (NoFastPath, ItemRefused):
            raise
        except Exception as error:
            raise FailedAt(block.table) from error  # of a value: its conversion has raised

    # ---- inserts

    def _insert(self, block: Block) -> Copied | Executed:
        table = self._table(block.table)
        names, values, expressions = table.with_defaults(block)
        if table.is_always_generated(names):
            raise NoFastPath("values are given for a column that the database generates")
        reason = table.server.copy_refusal or ("defaults are SQL expressions" if expressions else None)
        if reason is None and table.leaves_out_domains(names):
            reason = "a column of a domain is left out, of which COPY does not ask whether it may be NULL"
        if reason is None and len(block.writes) >= _FEWEST_FOR_COPY:
            table.require_texts(names)
            sql = f"COPY {table.name} ({_listed(table, names)}) FROM STDIN"
            return Copied(block.table, self._encode(sql), self._pieces(table, names, values))
        if reason is not None:
            self._note_slow(block.table, reason)
        source = self._arrays(table, list(zip(names, values, strict=True)))
        target = _listed(table, [*names, *expressions])
        selected = ", ".join([*source.casts, *expressions.values()])
        sql = f"INSERT INTO {table.name} ({target}) SELECT {selected} FROM {source.sql}"
        return Executed(block.table, Statement(self._encode(sql), source.parameters))

    def _pieces(self, table: FastTable, names: Sequence[str], values: Sequence[Sequence[object]]) -> Iterator[bytes]:
        types = [frozenset(map(type, each)) for each in values]
        for start in range(0, len(values[0]), _ROWS_OF_A_PIECE):
            stop = start + _ROWS_OF_A_PIECE
            columns = [
                table.texts_of(name, each[start:stop], kinds, self._transformer)
                for name, each, kinds in zip(names, values, types, strict=True)
            ]
            yield self._encode(copy_rows(columns))

    def _upsert(self, block: Block) -> Executed:
        table = self._table(block.table)
        first = block.writes[0]
        names, values, expressions = table.with_defaults(block)
        if table.is_always_generated(names):
            raise NoFastPath("values are given for a column that the database generates")
        source = self._arrays(table, list(zip(names, values, strict=True)))
        changes = [f"{table.quoted(name)} = excluded.{table.quoted(name)}" for name in first.set_columns]
        if changes:
            changes += [f"{table.quoted(name)} = {sql}" for name, sql in table.touches(first.set_columns)]
        sql = (
            f"INSERT INTO {table.name} ({_listed(table, [*names, *expressions])})"
            f" SELECT {', '.join([*source.casts, *expressions.values()])} FROM {source.sql}"
            f" ON CONFLICT ({_listed(table, first.key_columns)})"
            f" DO {'UPDATE SET ' + ', '.join(changes) if changes else 'NOTHING'}"
        )
        return Executed(block.table, Statement(self._encode(sql), source.parameters))

    # ---- updates, increments, deletes

    def _change(self, block: Block) -> Executed:
        """Lock in key order, change, and give the positions of the keys that do not exist."""
        table = self._table(block.table)
        first = block.writes[0]
        keys = list(zip(first.key_columns, block.keys(), strict=True))
        source = self._arrays(table, [*keys, *zip(block.columns, block.values, strict=True)])
        named = ", ".join(f"{cast} AS v{number}" for number, cast in enumerate(source.casts))
        matches = _matches(table, first.key_columns)
        given = f"WITH bw_v AS (SELECT place, {named} FROM {source.with_place})"
        is_place = f"u.place {EQUALS} v.place"
        missing = f"SELECT v.place FROM bw_v AS v LEFT JOIN bw_u AS u ON {is_place} WHERE u.place IS NULL"
        if first.kind is Kind.DELETE:
            sql = (
                f"{given}, bw_u AS (DELETE FROM {table.name} AS t USING bw_v AS v WHERE {matches} RETURNING v.place)"
                f" {missing if not first.missing_ok else 'SELECT FROM bw_u WHERE false'}"
            )
        else:
            changes, guard = self._changes(table, block, len(keys))
            own = ", ".join(f"t.{table.quoted(name)} AS k{number}" for number, name in enumerate(first.key_columns))
            order = ", ".join(f"t.{table.quoted(name)}" for name in first.key_columns)
            same = [table.equals(name) for name in first.key_columns]
            locked = " AND ".join(f"l.k{number} {each} v.v{number}" for number, each in enumerate(same))
            sql = (
                f"{given}, bw_l AS (SELECT {own} FROM {table.name} AS t JOIN bw_v AS v ON {matches}"
                f" ORDER BY {order} FOR NO KEY UPDATE OF t),"
                f" bw_u AS (UPDATE {table.name} AS t SET {changes} FROM bw_v AS v JOIN bw_l AS l ON {locked}"
                f" WHERE {matches}{guard} RETURNING v.place) {missing}"
            )
        return Executed(
            block.table, Statement(self._encode(sql), source.parameters), "a row to be changed does not exist"
        )

    def _changes(self, table: FastTable, block: Block, offset: int) -> tuple[str, str]:
        """The SET list of an update, and the condition that a row must meet beside having the key."""
        changes, guard = [], ""
        is_relative = block.writes[0].kind is Kind.INCREMENT
        for number, (name, types) in enumerate(zip(block.columns, block.types, strict=True), start=offset):
            column = table.quoted(name)
            if is_relative and not types.isdisjoint({timedelta}):
                raise NoFastPath("time spans are added to dates")
            changes.append(f"{column} = " + (f"t.{column} {PLUS} v.v{number}" if is_relative else f"v.v{number}"))
            guard += f" AND t.{column} IS NOT NULL" if is_relative else ""
        changes += [f"{table.quoted(name)} = {sql}" for name, sql in table.touches(block.columns)]
        return ", ".join(changes), guard

    # ---- locks and probes

    def locks(self, items: Iterable[Sequence[Write]], *, fewest_statements: int = 1) -> Iterator[Executed]:
        """Locks on the rows that several statements change: one by one they would not keep the order of keys.

        Args:
            items: The writes of items.
            fewest_statements: Leave out tables that fewer kinds of statements change.
        """
        keyed: dict[TableInfo, list[Write]] = {}
        for writes in items:
            for write in writes:
                if write.kind in _LOCKED and (write.kind is not Kind.UPSERT or write.set_columns):
                    keyed.setdefault(write.table, []).append(write)
        for info in sorted(keyed, key=lambda info: info.order):
            if len({(write.kind, frozenset(write.values)) for write in keyed[info]}) < fewest_statements:
                continue
            by_columns: dict[tuple[str, ...], list[Write]] = {}
            for write in keyed[info]:
                by_columns.setdefault(write.key_columns, []).append(write)
            for columns, chosen in sorted(by_columns.items()):
                yield self._lock(info, columns, each_key_once(chosen))

    def _lock(self, info: TableInfo, columns: tuple[str, ...], writes: Sequence[Write]) -> Executed:
        table = self._table(info)
        keys = zip(*[write.key for write in writes], strict=True)
        source = self._arrays(table, list(zip(columns, keys, strict=True)))
        named = ", ".join(f"{cast} AS v{number}" for number, cast in enumerate(source.casts))
        order = ", ".join(f"t.{table.quoted(name)}" for name in columns)
        sql = (
            f"WITH bw_v AS (SELECT {named} FROM {source.sql}) SELECT pg_catalog.count(*) FROM"
            f" (SELECT FROM {table.name} AS t JOIN bw_v AS v ON {_matches(table, columns)}"
            f" ORDER BY {order} FOR NO KEY UPDATE OF t) AS locked"
        )
        return Executed(info, Statement(self._encode(sql), source.parameters))

    def _probe(self, probe: Probe) -> Executed:
        table = self._table(probe.table)
        keys = zip(*probe.keys, strict=True)
        source = self._arrays(table, list(zip(probe.columns, keys, strict=True)))
        named = ", ".join(f"{cast} AS v{number}" for number, cast in enumerate(source.casts))
        sql = (
            f"WITH bw_v AS (SELECT {named} FROM {source.sql})"
            f" SELECT FROM bw_v AS v WHERE NOT EXISTS"
            f" (SELECT FROM {table.name} AS t WHERE {_matches(table, probe.columns)}) LIMIT 1"
        )
        statement = Statement(self._encode(sql), source.parameters)
        return Executed(probe.table, statement, "an item refers to a row that only a later item creates")

    # ---- arrays

    def _arrays(self, table: FastTable, columns: Sequence[tuple[str, Sequence[object]]]) -> Source:
        texts = [
            table.texts_of(name, values, frozenset(map(type, values)), self._transformer) for name, values in columns
        ]
        return Source([table.cast(name) for name, _ in columns], texts, self._encode)

    def _encode(self, text: str) -> bytes:
        return text.encode(self._encoding)


class Source:
    """Rows as arrays of texts, to be selected from.

    Attributes:
        casts: The columns, each cast to its type.
        sql: What stands behind FROM.
        with_place: The same, with a column `place`: the position of a row, from 1.
        parameters: The arrays.
    """

    def __init__(self, types: Sequence[str], texts: Sequence[Texts], encode: Callable[[str], bytes]) -> None:
        self.casts = [f"s.c{number}::{name}" for number, name in enumerate(types)]
        names = [f"c{number}" for number in range(len(types))]
        arrays = rows_of([f"${number}::{TEXT}[]" for number in range(1, len(types) + 1)])
        self.sql = f"{arrays} AS s ({', '.join(names)})"
        self.with_place = f"{arrays} WITH ORDINALITY AS s ({', '.join(names)}, place)"
        self.parameters = [encode(array_literal(each)) for each in texts]


def _listed(table: FastTable, columns: Sequence[str]) -> str:
    return ", ".join(table.quoted(column) for column in columns)


def _matches(table: FastTable, columns: Sequence[str]) -> str:
    return " AND ".join(
        f"t.{table.quoted(name)} {table.equals(name)} v.v{number}" for number, name in enumerate(columns)
    )
