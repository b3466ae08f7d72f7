"""SQL expressions given as values or defaults: what their outcome depends on.

A chunk's statements are not carried out in the order of its items. An expression whose outcome depends on that order
must not be moved among its neighbours: `currval()` names the order that was inserted last, which in a chunk is another
item's. Nobody can look into a function of the database's, so each is taken to depend on the session (on what it has
done so far) but those that are known not to: `PURE_FUNCTIONS`, and those whose class in SQLAlchemy says so:

    class tax_of(GenericFunction):
        batchwrite_is_pure = True
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ClauseElement, ColumnClause, TextClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import FromClause, SelectBase

from batchwrite.table import Dependence

if TYPE_CHECKING:
    import sqlalchemy


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Source: the lists of functions in the manuals of PostgreSQL 15 to 18, SQLite 3.40 and MariaDB 10.11. Those that give
# another value each time (random, nextval) are among them: in which order rows get theirs is not promised.
PURE_FUNCTIONS = _words(
    """
    abs acos asin atan atan2 avg bit_count cbrt ceil ceiling cos cot count degrees div exp floor gcd greatest lcm least
    ln log log10 log2 max min mod pi pow power radians rand random round scale sign sin sqrt sum tan total trim_scale
    trunc truncate
    array_agg group_concat string_agg json_agg jsonb_agg json_object_agg jsonb_object_agg
    ascii bit_length btrim char char_length character_length chr concat concat_ws convert convert_from convert_to decode
    elt encode field find_in_set format from_base64 glob hex initcap insert_ instr lcase left length like locate lower
    lpad ltrim mid normalize octet_length ord overlay position printf quote quote_ident quote_literal quote_nullable
    regexp_instr regexp_match regexp_matches regexp_replace regexp_split_to_array regexp_substr repeat replace reverse
    right rpad rtrim soundex space split_part starts_with string_to_array strcmp strpos substr substring
    substring_index to_ascii to_base64 to_hex translate trim ucase unaccent unhex unicode unistr upper
    adddate addtime age clock_timestamp convert_tz curdate current_date current_time current_timestamp curtime date
    date_add date_bin date_format date_part date_sub date_trunc datediff datetime day dayname dayofmonth dayofweek
    dayofyear extract from_days from_unixtime hour isfinite julianday justify_days justify_hours justify_interval
    last_day localtime localtimestamp make_date make_interval make_time make_timestamp make_timestamptz makedate
    maketime microsecond minute month monthname now quarter sec_to_time second statement_timestamp str_to_date strftime
    subdate subtime sysdate time time_format time_to_sec timediff timeofday timestamp timestampadd timestampdiff
    timezone to_char to_date to_days to_number to_seconds to_timestamp transaction_timestamp unix_timestamp unixepoch
    utc_date utc_now utc_time utc_timestamp utcnow week weekday weekofyear year yearweek
    gen_random_bytes gen_random_uuid next_value nextval random_bytes randomblob uuid uuid_generate_v1
    uuid_generate_v1mc uuid_generate_v3 uuid_generate_v4 uuid_generate_v5 uuid_nil uuid_short uuidv4 uuidv7
    coalesce if if_ ifnull iif isnull nullif num_nonnulls num_nulls nvl nvl2
    array array_append array_cat array_fill array_length array_position array_prepend array_remove array_replace
    array_to_json array_to_string cardinality hstore int4range int8range json json_array json_array_append
    json_array_insert json_arrayagg json_build_array json_build_object json_contains json_each json_extract json_insert
    json_keys json_length json_merge_patch json_merge_preserve json_object json_patch json_query json_quote json_remove
    json_replace json_set json_strip_nulls json_type json_unquote json_valid json_value jsonb jsonb_build_array
    jsonb_build_object jsonb_insert jsonb_object jsonb_pretty jsonb_set jsonb_strip_nulls lower_inf numrange row
    row_to_json to_json to_jsonb tsrange tstzrange daterange upper_inf zeroblob
    plainto_tsquery setweight to_tsquery to_tsvector tsvector_to_array websearch_to_tsquery text2ltree
    compress crc32 crypt digest gen_salt hmac md5 sha sha1 sha2 sha224 sha256 sha384 sha512 uncompress
    box circle inet_aton inet_ntoa inet6_aton inet6_ntoa line lseg path point polygon st_geogfromtext st_geogfromwkb
    st_geographyfromtext st_geomfromewkb st_geomfromewkt st_geomfromgeojson st_geomfromtext st_geomfromwkb st_makepoint
    st_point st_setsrid st_transform
    connection_id current_catalog current_database current_role current_schema current_setting current_user database
    inet_client_addr pg_backend_pid pg_current_xact_id schema session_user sqlite_version txid_current user version
    """
)
"""Functions of the databases' own whose outcome does not depend on what the session has written before."""

# What stands before a bracket in SQL and is no function: types with a length, and keywords.
_NO_FUNCTIONS = _words(
    "and any array as bit by case cast character check decimal dec else exists from in interval is not numeric on or"
    " over select some then time timestamp values varbinary varbit varchar varying when where with zone"
)

_LITERAL = re.compile(r"'[^']*'")
_BEFORE_A_BRACKET = re.compile(r'(?<![\w$."`])([\w$."`]++)\s*+\(')  # each word once, from its beginning


def is_expression(value: Any) -> bool:
    """Whether a value is an SQL expression (or an ORM attribute that stands for one) and not data."""
    kind = type(value)  # not the value: its attributes may be worked out by code of its own
    return issubclass(kind, ClauseElement) or hasattr(kind, "__clause_element__")


def dependence_of(value: Any) -> Dependence:
    """What the outcome of a value depends on; data on nothing."""
    if not is_expression(value):
        return Dependence.NOTHING
    if not isinstance(value, ClauseElement):  # an attribute of the ORM's, a column
        return Dependence.ROWS
    return max(map(_dependence_of_part, visitors.iterate(value)), default=Dependence.NOTHING)


def _dependence_of_part(part: Any) -> Dependence:
    if isinstance(part, FunctionElement):
        return Dependence.NOTHING if _is_pure(part) else Dependence.SESSION
    if isinstance(part, TextClause):
        return Dependence.ROWS if _calls_pure_functions(part.text) else Dependence.SESSION
    if isinstance(part, ColumnClause) and part.is_literal:
        return Dependence.ROWS if _calls_pure_functions(part.name) else Dependence.SESSION
    if isinstance(part, (ColumnClause, FromClause, SelectBase)):
        return Dependence.ROWS
    return Dependence.NOTHING


def _is_pure(function: FunctionElement[Any]) -> bool:
    if getattr(function, "batchwrite_is_pure", False):
        return True
    packages = tuple(getattr(function, "packagenames", ()))
    return packages in {(), ("pg_catalog",)} and str(getattr(function, "name", "")).lower() in PURE_FUNCTIONS


def has_dependent_default(column: sqlalchemy.Column[Any]) -> bool:
    """Whether what a column gets where a row gives it no value depends on rows, or on what the session did last."""
    # Of what the database makes up by other means (an identity, a sequence), there is no expression.
    given = [getattr(default, "arg", None) for default in (column.default, column.server_default)]
    return any(_is_query(each.text) if isinstance(each, TextClause) else dependence_of(each) for each in given)


def _is_query(text: str) -> bool:
    """Whether the SQL of a default, which names no columns, may read tables or what the session did."""
    return "select" in text.lower() or not _calls_pure_functions(text)


def _calls_pure_functions(text: str) -> bool:
    """Whether SQL calls only functions that are known to be pure."""
    names = _BEFORE_A_BRACKET.findall(_LITERAL.sub("''", text))
    return all(_is_pure_name(name) for name in names)


def _is_pure_name(name: str) -> bool:
    package, _, own = name.replace('"', "").replace("`", "").lower().rpartition(".")
    return package in {"", "pg_catalog"} and (own in PURE_FUNCTIONS or own in _NO_FUNCTIONS)
