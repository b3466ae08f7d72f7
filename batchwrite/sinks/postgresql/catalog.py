"""What the server says of a table, beyond what its SQLAlchemy definition does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchwrite.sinks.postgresql.names import DIFFERS, EQUALS, JOINED, MINUS, operator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection


def _name_of(schema: str, name: str) -> str:
    """SQL that writes a name with its schema, from columns of type `name`."""
    quoted = [f"pg_catalog.quote_ident({each}::pg_catalog.text)" for each in (schema, name)]
    return f"{quoted[0]} {JOINED} '.' {JOINED} {quoted[1]}"


# What a column's type is in the end: a domain over what is PostgreSQL's own, or over an enumeration, is one of these.
_KIND = f"""(
  WITH RECURSIVE base AS (
    SELECT y.typtype AS kind, y.typbasetype AS next, y.typnamespace AS place UNION ALL
    SELECT b.typtype, b.typbasetype, b.typnamespace FROM base JOIN pg_catalog.pg_type b ON b.oid {EQUALS} base.next)
  SELECT CASE WHEN y.typtype {EQUALS} 'd' AND NOT (base.kind {EQUALS} 'e'
    OR base.place {EQUALS} 'pg_catalog'::pg_catalog.regnamespace) THEN base.kind ELSE y.typtype END
  FROM base WHERE base.next {EQUALS} 0)"""

_IS_NUMBERED = f"""a.attidentity {DIFFERS} ''
  OR COALESCE(pg_catalog.pg_get_expr(d.adbin, d.adrelid) {operator("~~")} 'nextval(%', false)"""

_HAS_ODD_NULLS = f"""COALESCE(pg_catalog.to_jsonb(i) {operator("->>")} 'indnullsnotdistinct' {EQUALS} 'true', false)"""

_FACTS = f"""
SELECT pg_catalog.json_build_object(
  'name', {_name_of("n.nspname", "c.relname")},
  'kind', c.relkind,
  'rules', c.relhasrules,
  'row_security', pg_catalog.row_security_active(c.oid),
  'triggers', EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid {EQUALS} c.oid AND NOT t.tgisinternal),
  'exclusions', EXISTS (
    SELECT FROM pg_catalog.pg_constraint x WHERE x.conrelid {EQUALS} c.oid AND x.contype {EQUALS} 'x'),
  'columns', (
    SELECT pg_catalog.json_object_agg(a.attname, pg_catalog.json_build_array(
      pg_catalog.format_type(a.atttypid, -1), {_name_of("m.nspname", "y.typname")}, a.atttypid::pg_catalog.int8,
      a.attidentity {EQUALS} 'a', a.attnotnull, {_IS_NUMBERED}, {_KIND}))
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON y.oid {EQUALS} a.atttypid
    JOIN pg_catalog.pg_namespace m ON m.oid {EQUALS} y.typnamespace
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid {EQUALS} a.attrelid AND d.adnum {EQUALS} a.attnum
    WHERE a.attrelid {EQUALS} c.oid AND a.attnum {operator(">")} 0 AND NOT a.attisdropped),
  'unique', (
    SELECT pg_catalog.json_agg(CASE WHEN i.indpred IS NULL AND i.indexprs IS NULL AND NOT {_HAS_ODD_NULLS} THEN (
      SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.pg_attribute a
      WHERE a.attrelid {EQUALS} c.oid
      AND a.attnum {EQUALS} ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts {MINUS} 1])) END)
    FROM pg_catalog.pg_index i WHERE i.indrelid {EQUALS} c.oid AND i.indisunique),
  'checks', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(pg_catalog.pg_get_expr(k.conbin, k.conrelid), (
      SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.pg_attribute a
      WHERE a.attrelid {EQUALS} c.oid AND a.attnum {EQUALS} ANY (k.conkey))))
    FROM pg_catalog.pg_constraint k WHERE k.conrelid {EQUALS} c.oid AND k.contype {EQUALS} 'c'),
  'references', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array({_name_of("q.nspname", "p.relname")}, (
      SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.attname, b.attname,
        'OPERATOR(' {JOINED} pg_catalog.quote_ident(z.nspname::pg_catalog.text) {JOINED} '.'
        {JOINED} o.oprname::pg_catalog.text {JOINED} ')'))
      FROM ROWS FROM (pg_catalog.unnest(f.conkey), pg_catalog.unnest(f.confkey), pg_catalog.unnest(f.conpfeqop))
        AS pair (own, other, same)
      JOIN pg_catalog.pg_attribute a ON a.attrelid {EQUALS} f.conrelid AND a.attnum {EQUALS} pair.own
      JOIN pg_catalog.pg_attribute b ON b.attrelid {EQUALS} f.confrelid AND b.attnum {EQUALS} pair.other
      JOIN pg_catalog.pg_operator o ON o.oid {EQUALS} pair.same
      JOIN pg_catalog.pg_namespace z ON z.oid {EQUALS} o.oprnamespace)))
    FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class p ON p.oid {EQUALS} f.confrelid
    JOIN pg_catalog.pg_namespace q ON q.oid {EQUALS} p.relnamespace
    WHERE f.conrelid {EQUALS} c.oid AND f.contype {EQUALS} 'f')
)::pg_catalog.text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid {EQUALS} c.relnamespace
WHERE c.oid {EQUALS} pg_catalog.to_regclass('{{name}}')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerColumn:
    """A column.

    Attributes:
        type_name: Its type without a length or precision, as people write it.
        cast: The same with its schema: a cast to it cuts nothing off, and means no other type of that name.
        type_oid: Number of its type.
        is_always_generated: Whether INSERT refuses any value for it (GENERATED ALWAYS AS IDENTITY).
        is_not_null: Whether it cannot be NULL.
        is_numbered: Whether it gets a number of its own where a row gives none.
        kind: PostgreSQL's letter for the kind of its type: `b` base, `e` enumeration, …; `d` for a domain over
            what is PostgreSQL's own or an enumeration, and that of the type below it for any other.
    """

    type_name: str
    cast: str
    type_oid: int
    is_always_generated: bool
    is_not_null: bool
    is_numbered: bool
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTable:
    """A table.

    Attributes:
        name: Its name with its schema.
        copy_refusal: Why COPY cannot serve where INSERT can, if so.
        has_triggers: Whether it has triggers of the user's.
        has_odd_uniqueness: Whether rows may exclude each other in ways that columns alone do not tell: exclusion
            constraints, unique indexes over expressions or over some of the rows, or for which NULLs are alike.
        columns: Its columns, by name.
        unique: Sets of columns of its plain unique indexes.
        checks: Its CHECK constraints: the expression and the columns.
        references: Its foreign keys: the table referred to, with its schema, and for each column its name, the name
            of the one that it refers to, and the operator by which the server compares the two, the other's first.
    """

    name: str
    copy_refusal: str | None
    has_triggers: bool
    has_odd_uniqueness: bool
    columns: Mapping[str, ServerColumn]
    unique: tuple[frozenset[str], ...]
    checks: tuple[tuple[str, frozenset[str]], ...]
    references: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...]


def look_up(connection: Connection, name: str) -> ServerTable | None:
    """What the server says of a table, or nothing where it has none of that name.

    Args:
        connection: The connection.
        name: The table's name as it is written in SQL.
    """
    query = _FACTS.replace("{name}", name.replace("'", "''")).replace("%", "%%")
    facts = connection.exec_driver_sql(query).scalar()
    # As a text: psycopg takes JSON for UTF-8, whatever the connection's encoding.
    return None if facts is None else _server_table(json.loads(facts))


def _server_table(facts: dict[str, Any]) -> ServerTable:
    unique = facts["unique"] or []
    return ServerTable(
        name=facts["name"],
        copy_refusal=_copy_refusal(facts),
        has_triggers=facts["triggers"],
        has_odd_uniqueness=facts["exclusions"] or None in unique,
        columns={
            name: ServerColumn(
                type_name=type_name.removeprefix("pg_catalog."),  # where another is found under the name
                cast=cast,
                type_oid=oid,
                is_always_generated=always,
                is_not_null=not_null,
                is_numbered=numbered,
                kind=kind,
            )
            for name, (type_name, cast, oid, always, not_null, numbered, kind) in (facts["columns"] or {}).items()
        },
        unique=tuple(frozenset(columns) for columns in unique if columns),
        checks=tuple((expression, frozenset(columns or ())) for expression, columns in facts["checks"] or ()),
        references=tuple(
            (parent, tuple((own, other, same) for own, other, same in pairs))
            for parent, pairs in facts["references"] or ()
        ),
    )


def _copy_refusal(facts: dict[str, Any]) -> str | None:
    if facts["kind"] not in {"r", "p"}:
        return "it is no plain table"
    if facts["rules"]:
        return "it has rules, which COPY passes by"
    if facts["row_security"]:
        return "row-level security applies to it, which COPY cannot keep"
    return None
