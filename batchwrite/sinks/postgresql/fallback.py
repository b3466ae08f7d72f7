"""The fallback on the server: one DO block that finds the items at fault, and writes the others.

Everything a chunk is to write goes over in one message, as arrays of texts in settings of the transaction. The block
writes first all items that nothing speaks against, as few statements (`bulk first`), and then each suspect by itself,
caught by an exception handler, so that the server logs no error for it. Where that could decide otherwise than the
items one by one, in order, would, or where it fails, the block undoes it and tries every item by itself.

Why a suspect that fails after all the others would have failed in its turn, for the same reason: it fails as it
inserts, for reasons of its own (a value, NOT NULL, CHECK), for a missing parent (more rows only make more parents), or
for a unique key, which no later item shares: later items that insert a key again are suspects, by definition, and what
upserts do beside them is looked at in `order`. Where any of that does not hold (keys that the database compares
otherwise than Python, triggers, updates), bulk first is not used.

Items that are tried one by one and succeed would each remain a subtransaction of their own, and from the 65th on
everybody else pays for them. So items are tried in windows: a window is undone once its failures are known, and those
that succeeded are written again, outside of any subtransaction.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from batchwrite.codes import SQLSTATE_CLASSES, SQLSTATES
from batchwrite.fault import FaultKind
from batchwrite.sinks.postgresql.names import DIFFERS, EQUALS, JOINED, MINUS, PLUS, TEXT, operator, rows_of
from batchwrite.sinks.postgresql.rules import DEFERRED
from batchwrite.sinks.postgresql.wire import Statement
from batchwrite.write import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batchwrite.sinks.postgresql.layout import Group
    from batchwrite.sinks.postgresql.tables import FastTable
    from batchwrite.table import TableInfo

# Of one window at most so many subtransactions are alive at a time, below the 64 of which PostgreSQL keeps track
# cheaply (PGPROC_MAX_CACHED_SUBXIDS), two being left for what is around them.
_WINDOW = 60

# Codes of the block's own errors, which nobody else would choose; the text tells them from those of somebody who does.
_MISSING, _NULL, _SEVERAL, _UNDO, _IN_ORDER = "ZB1W1", "ZB1W2", "ZB1W3", "ZB1W4", "ZB1W5"
_OWN = "raised by batchwrite"

_RESULT = "batchwrite.refused"


class Refusal(NamedTuple):
    """Why the server has refused an item.

    Attributes:
        position: The item's, from 0.
        sqlstate: The code of the error.
        message: Its text.
        detail: More of it, which may quote row values.
        table: The table that the error names.
        column: The column that it names.
        constraint: The constraint that it names.
        group: Number of the group that was being written, from 0.
        is_late: Whether a check at the end of the item has refused it.
    """

    position: int
    sqlstate: str
    message: str
    detail: str
    table: str
    column: str
    constraint: str
    group: int
    is_late: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackPlan:
    """What is to be done.

    Attributes:
        groups: What the items write.
        count: Number of items.
        left_out: Numbers of items that cannot be sent, from 1.
        suspects: Numbers of items to be tried by themselves.
        is_bulk_first: Whether the others may be written before them.
    """

    groups: Sequence[Group]
    count: int
    left_out: frozenset[int]
    suspects: frozenset[int]
    is_bulk_first: bool


def statements_of(plan: FallbackPlan, encoding: str) -> list[Statement]:
    """What carries out a plan, in the connection's encoding; the last returns what `refusals_of` reads."""
    settings: list[tuple[str, bytes]] = []
    for number, group in enumerate(plan.groups):
        settings += [(f"bw_g{number}_c{place}", each) for place, each in enumerate(group.parameters)]
        settings.append((f"bw_g{number}_item", _integers(group.items)))
        settings.append((f"bw_g{number}_first", _integers(_first_places(group.items, plan.count))))
    everyone = [number for number in range(1, plan.count + 1) if number not in plan.left_out]
    settings.append(("everyone", _integers(everyone)))
    settings.append(("suspects", _integers(sorted(plan.suspects - plan.left_out))))
    listed = ", ".join(
        f"pg_catalog.set_config('batchwrite.{name}', ${place}, true)" for place, (name, _) in enumerate(settings, 1)
    )
    return [
        Statement(f"SELECT FROM (SELECT {listed}) AS settings".encode(), [value for _, value in settings]),
        Statement(_block(plan).encode(encoding)),
        Statement(f"SELECT pg_catalog.current_setting('{_RESULT}')".encode()),
    ]


def refusals_of(text: str) -> list[Refusal]:
    """What the last of the statements has returned."""
    return sorted(Refusal(each[0] - 1, *each[1:]) for each in json.loads(text))


def message_of(refusal: Refusal, group: Group) -> tuple[str, str] | None:
    """The message, and the columns concerned, for what the block itself refuses an item for."""
    if refusal.message != _OWN:
        return None
    keys = ", ".join(group.key_columns)
    if refusal.sqlstate == _MISSING:
        return f"no row has this key ({keys})", keys
    if refusal.sqlstate == _NULL:
        columns = ", ".join(group.value_names)
        return f"the column to be incremented ({columns}) is NULL", columns
    if refusal.sqlstate == _SEVERAL:
        return f"the key ({keys}) names more than one row", keys
    return None


def _integers(numbers: Sequence[int]) -> bytes:
    return ("{" + ",".join(map(str, numbers)) + "}").encode()


def _first_places(items: Sequence[int], count: int) -> list[int]:
    """For each item, and one more, the place from 1 of its first write in a group."""
    if isinstance(items, range):
        return list(range(1, count + 2))
    places, place = [], 0
    for number in range(1, count + 2):
        while place < len(items) and items[place] < number:
            place += 1
        places.append(place + 1)
    return places


# ---- the block


def _block(plan: FallbackPlan) -> str:
    return f"DO {_dollar_quoted(_body(plan))}"


def _dollar_quoted(text: str) -> str:
    """A text between dollar signs, with a tag that does not stand in it: the name of a table or column may hold any."""
    tags = (f"$batchwrite{number or ''}$" for number in count())
    tag = next(tag for tag in tags if tag not in text)
    return f"{tag}\n{text}{tag}"


def _body(plan: FallbackPlan) -> str:
    groups = list(enumerate(plan.groups))
    declared = "\n".join(line for number, group in groups for line in _declarations(number, group))
    bulk_first = _bulk_first(groups) if plan.is_bulk_first else ""
    return f"""#variable_conflict use_column
DECLARE
{declared}
bw_everyone int[] := pg_catalog.current_setting('batchwrite.everyone')::int[];
bw_suspects int[] := pg_catalog.current_setting('batchwrite.suspects')::int[];
bw_ok boolean[] := pg_catalog.array_fill(false, ARRAY[{plan.count}]);
bw_todo int[] := bw_everyone; bw_found int[]; bw_good int[]; bw_refused {TEXT}[] := '{{}}';
bw_i int; bw_j int; bw_k int; bw_from int; bw_hit bigint; bw_group int; bw_late boolean; bw_proves boolean := true;
bw_deferred {TEXT} := (SELECT pg_catalog.string_agg(name, ', ') FROM ({DEFERRED}) AS deferred);
bw_state {TEXT}; bw_message {TEXT}; bw_detail {TEXT}; bw_table {TEXT}; bw_column {TEXT}; bw_constraint {TEXT};
BEGIN
IF bw_deferred IS NOT NULL THEN SET CONSTRAINTS ALL IMMEDIATE; END IF;
{bulk_first}
{_windows(groups, is_after_bulk=False)}
PERFORM pg_catalog.set_config('{_RESULT}', '[' {JOINED} pg_catalog.array_to_string(bw_refused, ',')
  {JOINED} ']', true);
END """


def _declarations(number: int, group: Group) -> Iterator[str]:
    for place in range(len(group.parameters)):
        name = f"bw_g{number}_c{place}"
        yield f"{name} {TEXT}[] := pg_catalog.current_setting('batchwrite.{name}')::{TEXT}[];"
    yield f"bw_g{number}_item int[] := pg_catalog.current_setting('batchwrite.bw_g{number}_item')::int[];"
    yield f"bw_g{number}_first int[] := pg_catalog.current_setting('batchwrite.bw_g{number}_first')::int[];"


def _is_not_an_item_fault() -> str:
    """The condition under which an error is none of the items': from the tables in `codes`.

    What looks fatal is an item's here: the block comes behind the same statements without rows, which have not failed.
    """

    def is_one_of(text: str, codes: Sequence[str]) -> str:
        listed = ", ".join(f"'{code}'" for code in codes)
        return f"{text} {EQUALS} ANY (ARRAY[{listed}]::{TEXT}[])"

    own = [code for code, means in SQLSTATES.items() if means.kind is FaultKind.ITEM]
    others = [code for code, means in SQLSTATES.items() if means.kind is not FaultKind.ITEM]
    may_be_items = {FaultKind.ITEM, FaultKind.FATAL}
    classes = [code for code, means in SQLSTATE_CLASSES.items() if means.kind not in may_be_items]
    return (
        f"NOT {is_one_of('bw_state', own)} AND "
        f"({is_one_of('bw_state', others)} OR {is_one_of('pg_catalog.left(bw_state, 2)', classes)})"
    )


def _windows(groups: Sequence[tuple[int, Group]], *, is_after_bulk: bool) -> str:
    """Each item of `bw_todo` by itself, in order."""
    single = _single(groups)
    # After the others are written, only what fails as it inserts is known to have failed in its turn.
    proof = ", ".join(str(number) for number, group in groups if not group.is_keyed and not group.set_columns) or "-1"
    in_order = f"RAISE EXCEPTION '{_OWN}' USING ERRCODE = '{_IN_ORDER}'; END IF;"
    doubt = ""
    if is_after_bulk:
        doubt = (
            f"IF bw_group {DIFFERS} ALL (ARRAY[{proof}]) AND bw_state {DIFFERS} '{_MISSING}'::{TEXT} THEN {in_order}"
        )
    if is_after_bulk and any(group.set_columns for _, group in groups):
        # One that succeeds now may set what an item behind it has set already.
        too_late = f"IF pg_catalog.cardinality(bw_good) {operator('>')} 0 THEN {in_order}"
    elif is_after_bulk and any(group.kind is Kind.UPSERT for _, group in groups):
        # Nobody has asked whether it matters where one lands that only the server has suspected.
        too_late = f"IF NOT bw_good {operator('<@')} bw_suspects THEN {in_order}"
    else:
        too_late = ""
    return f"""
bw_from := 1;
WHILE bw_from {operator("<=")} pg_catalog.cardinality(bw_todo) LOOP
  bw_good := '{{}}';
  BEGIN
    FOR bw_k IN bw_from .. LEAST(bw_from {PLUS} {_WINDOW - 1}, pg_catalog.cardinality(bw_todo)) LOOP
      bw_i := bw_todo[bw_k];
      BEGIN
        {single}
        bw_good := bw_good {JOINED} bw_i;
      EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS bw_state = RETURNED_SQLSTATE, bw_message = MESSAGE_TEXT,
          bw_detail = PG_EXCEPTION_DETAIL, bw_table = TABLE_NAME, bw_column = COLUMN_NAME,
          bw_constraint = CONSTRAINT_NAME;
        IF {_is_not_an_item_fault()} THEN RAISE; END IF;
        {doubt}
        bw_refused := bw_refused {JOINED} pg_catalog.json_build_array(bw_i, bw_state, bw_message, bw_detail, bw_table,
          bw_column, bw_constraint, bw_group, bw_late)::{TEXT};
      END;
    END LOOP;
    {too_late}
    IF pg_catalog.cardinality(bw_good) {operator(">")} 0 THEN
      RAISE EXCEPTION '{_OWN}' USING ERRCODE = '{_UNDO}';
    END IF;
  EXCEPTION WHEN SQLSTATE '{_UNDO}' THEN NULL;
  END;
  FOREACH bw_i IN ARRAY bw_good LOOP
    {single}
  END LOOP;
  bw_from := bw_from {PLUS} {_WINDOW};
END LOOP;
"""


def _single(groups: Sequence[tuple[int, Group]]) -> str:
    """The writes of item `bw_i`, with the constraints that wait for the end of a transaction checked at its own end."""
    change = f"'SET CONSTRAINTS ' {JOINED} bw_deferred {JOINED} ' DEFERRED'"
    begin = f"IF bw_deferred IS NOT NULL THEN EXECUTE {change}; END IF;"
    end = "IF bw_deferred IS NOT NULL THEN bw_late := true; SET CONSTRAINTS ALL IMMEDIATE; END IF;"
    loops = [
        f"""bw_group := {number};
        FOR bw_j IN bw_g{number}_first[bw_i] .. bw_g{number}_first[bw_i {PLUS} 1] {MINUS} 1 LOOP
          {_one(number, group)}
        END LOOP;"""
        for number, group in groups
    ]
    return "\n        ".join([f"bw_late := false; {begin}", *loops, end])


def _one(number: int, group: Group) -> str:
    """Write `bw_j` of a group."""
    table = group.table
    texts = [f"bw_g{number}_c{place}[bw_j]::{table.cast(name)}" for place, name in enumerate(group.names)]
    if not group.is_keyed:
        return f"{_insert(group)} VALUES ({', '.join([*texts, *group.expressions.values()])}){_on_conflict(group)};"
    count = len(group.key_columns)
    matches = " AND ".join(
        f"t.{table.quoted(name)} {table.equals(name)} {text}"
        for name, text in zip(group.key_columns, texts[:count], strict=True)
    )
    if group.kind is Kind.DELETE:
        change = f"DELETE FROM {table.name} AS t WHERE {matches}"
    else:
        sets, guard = _sets(group, texts[count:])
        change = f"UPDATE {table.name} AS t SET {sets} WHERE {matches}{guard}"
    missing = "NULL;" if group.missing_ok else f"RAISE EXCEPTION '{_OWN}' USING ERRCODE = '{_MISSING}';"
    if group.kind is Kind.INCREMENT:
        missing = (
            f"IF EXISTS (SELECT FROM {table.name} AS t WHERE {matches}) THEN"
            f" RAISE EXCEPTION '{_OWN}' USING ERRCODE = '{_NULL}'; END IF; {missing}"
        )
    return f"""{change};
          GET DIAGNOSTICS bw_hit = ROW_COUNT;
          IF bw_hit {operator(">")} 1 THEN RAISE EXCEPTION '{_OWN}' USING ERRCODE = '{_SEVERAL}'; END IF;
          IF bw_hit {EQUALS} 0 THEN {missing} END IF;"""


def _insert(group: Group) -> str:
    columns = ", ".join(group.table.quoted(name) for name in [*group.names, *group.expressions])
    return f"INSERT INTO {group.table.name} ({columns})"


def _on_conflict(group: Group) -> str:
    if group.kind is not Kind.UPSERT:
        return ""
    table = group.table
    keys = ", ".join(table.quoted(name) for name in group.key_columns)
    changes = [f"{table.quoted(name)} = excluded.{table.quoted(name)}" for name in group.set_columns]
    if not changes:
        return f" ON CONFLICT ({keys}) DO NOTHING"
    changes += [f"{table.quoted(name)} = {sql}" for name, sql in table.touches(group.set_columns)]
    return f" ON CONFLICT ({keys}) DO UPDATE SET {', '.join(changes)}"


def _sets(group: Group, values: Sequence[str]) -> tuple[str, str]:
    """The SET list of an update, and the condition that a row must meet beside having the key."""
    table, is_relative = group.table, group.kind is Kind.INCREMENT
    sets, guard = [], ""
    for name, value in zip(group.value_names, values, strict=True):
        column = table.quoted(name)
        sets.append(f"{column} = " + (f"t.{column} {PLUS} {value}" if is_relative else value))
        guard += f" AND t.{column} IS NOT NULL" if is_relative else ""
    sets += [f"{table.quoted(name)} = {sql}" for name, sql in table.touches(group.value_names)]
    return ", ".join(sets), guard


# ---- bulk first


def _bulk_first(groups: Sequence[tuple[int, Group]]) -> str:
    """All items that are no suspects together, and the suspects after them; undone where that is not sure."""
    looks = "\n".join(_look_for_suspects(number, group, groups) for number, group in groups)
    writes = "\n".join(f"  bw_group := {number};\n  {_all(number, group)}" for number, group in groups)
    return f"""
FOREACH bw_i IN ARRAY bw_everyone LOOP bw_ok[bw_i] := true; END LOOP;
FOREACH bw_i IN ARRAY bw_suspects LOOP bw_ok[bw_i] := false; END LOOP;
BEGIN
{looks}
EXCEPTION WHEN OTHERS THEN NULL; -- a guess the less
END;
BEGIN
{writes}
  bw_todo := '{{}}';
  FOREACH bw_i IN ARRAY bw_everyone LOOP
    IF NOT bw_ok[bw_i] THEN bw_todo := bw_todo {JOINED} bw_i; END IF;
  END LOOP;
{_windows(groups, is_after_bulk=True)}
  bw_todo := '{{}}';
EXCEPTION WHEN OTHERS THEN
  bw_state := SQLSTATE;
  IF {_is_not_an_item_fault()} THEN RAISE; END IF;
  bw_todo := bw_everyone;
  bw_refused := '{{}}';
END;
"""


def _all(number: int, group: Group) -> str:
    """The writes of a group of all items that are no suspects."""
    table = group.table
    names = [f"bw_c{place}" for place in range(len(group.names))]
    arrays = rows_of([*(f"bw_g{number}_c{place}" for place in range(len(group.names))), f"bw_g{number}_item"])
    source = f"{arrays} AS s ({', '.join([*names, 'bw_item'])})"
    casts = [f"s.{short}::{table.cast(name)}" for short, name in zip(names, group.names, strict=True)]
    if group.set_columns:
        source = source.replace(" AS s (", " WITH ORDINALITY AS s (")[:-1] + ", bw_place)"
        keys = ", ".join(casts[group.names.index(name)] for name in group.key_columns)
        return (
            f"{_insert(group)} SELECT DISTINCT ON ({keys}) {', '.join(casts)} FROM {source} WHERE bw_ok[s.bw_item]"
            f" ORDER BY {keys}, s.bw_place DESC{_on_conflict(group)};"
        )
    if not group.is_keyed:
        selected = ", ".join([*casts, *group.expressions.values()])
        order = [casts[group.names.index(name)] for name in _order_columns(table.info, group)]
        return (
            f"{_insert(group)} SELECT {selected} FROM {source} WHERE bw_ok[s.bw_item]"
            f" ORDER BY {', '.join([*order, 's.bw_item'])}{_on_conflict(group)};"
        )
    count = len(group.key_columns)
    keys = ", ".join(f"{cast} AS k{place}" for place, cast in enumerate(casts[:count]))
    sums = ", ".join(f"pg_catalog.sum({cast}) AS v{place}" for place, cast in enumerate(casts[count:]))
    sets, guard = _sets(group, [f"v.v{place}" for place in range(len(casts) - count)])
    matches = " AND ".join(
        f"t.{table.quoted(name)} {table.equals(name)} v.k{place}" for place, name in enumerate(group.key_columns)
    )
    listed = ", ".join(f"k{place}" for place in range(count))
    return f"""WITH bw_v AS (SELECT {keys}, {sums} FROM {source} WHERE bw_ok[s.bw_item] GROUP BY {listed}),
    bw_u AS (UPDATE {table.name} AS t SET {sets} FROM bw_v AS v WHERE {matches}{guard} RETURNING 1)
  SELECT (SELECT pg_catalog.count(*) FROM bw_v) {MINUS} (SELECT pg_catalog.count(*) FROM bw_u) INTO bw_hit;
  IF bw_hit {DIFFERS} 0 THEN RAISE EXCEPTION '{_OWN}' USING ERRCODE = '{_MISSING}'; END IF;"""


def _order_columns(info: TableInfo, group: Group) -> Sequence[str]:
    """The columns in whose order rows are inserted, so that two writers wait for each other and do not deadlock."""
    columns = group.key_columns if group.kind is Kind.UPSERT else info.primary_key
    return columns if set(columns).issubset(group.names) else ()


def _look_for_suspects(number: int, group: Group, groups: Sequence[tuple[int, Group]]) -> str:
    """Ask the server which items a constraint would refuse."""
    table = group.table
    given = {table.server_name(name): f"q.bw_c{place}" for place, name in enumerate(group.names)}
    if group.is_keyed:  # the row must be there, or come before
        keys = [(table.server_name(name), table.server_name(name), table.equals(name)) for name in group.key_columns]
        conditions = [_parent_is_missing(table.regclass, keys, given, groups, table)]
    else:
        conditions = list(_insert_conditions(group, given, groups))
    if not conditions:
        return ""
    named = ", ".join(f"s.bw_c{place}::{table.cast(name)} AS bw_c{place}" for place, name in enumerate(group.names))
    checked = ", ".join(
        f"s.bw_c{place}::{table.cast(name)} AS {table.quoted(name)}" for place, name in enumerate(group.names)
    )
    arrays = rows_of([*(f"bw_g{number}_c{place}" for place in range(len(group.names))), f"bw_g{number}_item"])
    names = ", ".join([*(f"bw_c{place}" for place in range(len(group.names))), "bw_item"])
    return f"""
  SELECT pg_catalog.array_agg(q.bw_item) INTO bw_found FROM (
    SELECT s.bw_item, {named}, {checked} FROM {arrays} AS s ({names}) WHERE bw_ok[s.bw_item] OFFSET 0
  ) AS q WHERE {" OR ".join(conditions)};
  IF bw_found IS NOT NULL THEN
    FOREACH bw_i IN ARRAY bw_found LOOP bw_ok[bw_i] := false; END LOOP;
  END IF;"""


def _insert_conditions(group: Group, given: dict[str, str], groups: Sequence[tuple[int, Group]]) -> Iterator[str]:
    table, server = group.table, group.table.server
    for name, value in given.items():
        if server.columns[name].is_not_null:
            yield f"{value} IS NULL"
    for expression, columns in server.checks:
        if columns and columns.issubset(given):
            yield f"({expression}) IS FALSE"
    for columns in server.unique if group.kind is Kind.INSERT else ():
        if columns.issubset(given):
            matches = " AND ".join(
                f"x.{table.quote(name)} {server.columns[name].equals} {given[name]}" for name in sorted(columns)
            )
            # A scalar sub-select with a LIMIT is looked up in the index row by row; a join might hash the whole table.
            yield f"(SELECT 1 FROM {table.name} AS x WHERE {matches} LIMIT 1) IS NOT NULL"
    for parent, pairs in server.references:
        if all(own in given for own, _, _ in pairs):
            yield _parent_is_missing(parent, pairs, given, groups, table)


def _parent_is_missing(
    parent: str,
    pairs: Sequence[tuple[str, str, str]],
    given: dict[str, str],
    groups: Sequence[tuple[int, Group]],
    table: FastTable,
) -> str:
    quote = table.quote
    is_set = " AND ".join(f"{given[own]} IS NOT NULL" for own, _, _ in pairs)
    matches = " AND ".join(f"x.{quote(other)} {same} {given[own]}" for own, other, same in pairs)
    condition = f"{is_set} AND (SELECT 1 FROM {parent} AS x WHERE {matches} LIMIT 1) IS NULL"
    row = ", ".join(given[own] for own, _, _ in pairs)
    for number, group in groups:
        places = {group.table.server_name(name): place for place, name in enumerate(group.names)}
        if group.is_keyed or group.table.regclass != parent or not all(other in places for _, other, _ in pairs):
            continue
        made = ", ".join(
            f"p.bw_c{place}::{group.table.cast(group.names[places[other]])}"
            for place, (_, other, _) in enumerate(pairs)
        )
        arrays = rows_of([*(f"bw_g{number}_c{places[other]}" for _, other, _ in pairs), f"bw_g{number}_item"])
        names = ", ".join([*(f"bw_c{place}" for place in range(len(pairs))), "bw_item"])
        nulls = " AND ".join(f"p.bw_c{place} IS NOT NULL" for place in range(len(pairs)))
        source = f"{arrays} AS p ({names}) WHERE bw_ok[p.bw_item] AND {nulls}"
        # By PostgreSQL's own operator: of a type of an extension's (citext) that may suspect one too many.
        condition += f" AND NOT ({row}) {EQUALS} ANY (SELECT {made} FROM {source})"
    return f"({condition})"
