"""Functions, operators and types that wait before pg_catalog for a statement that names them without a schema."""

import re
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

import batchwrite

_PACKAGE = Path(batchwrite.__file__).parent
_LIKE_A_CALL = re.compile(r"([a-z_][a-z0-9_]*)\s*\(")

# Types as which a trap takes what pg_catalog's function takes as any type, and types of texts, which pg_catalog's
# operators mostly take as `text`: an operator on them exactly is a better match than its own.
_LAY = """
CREATE SCHEMA evil;
CREATE TABLE evil.names (number int, name text);
CREATE SEQUENCE evil.calls MINVALUE 0 START 0;
CREATE FUNCTION evil.lay(wanted text[]) RETURNS int LANGUAGE plpgsql SET search_path = pg_catalog AS $lay$
DECLARE
  each record; arguments text; result text; number int := 0; stand_in text;
BEGIN
  FOR each IN
    SELECT p.proname AS name, p.proargtypes::oid[] AS types, p.prorettype AS result, NULL AS sign
    FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (wanted)
    UNION ALL
    SELECT 'op' || o.oid, array_remove(ARRAY[o.oprleft, o.oprright], 0), o.oprresult, o.oprname
    FROM pg_catalog.pg_operator o WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprleft <> 0
    UNION ALL
    SELECT format('op_%s_%s_%s', s.place, l.name, r.name), ARRAY[l.name::regtype, r.name::regtype]::oid[],
      CASE WHEN s.sign = '||' THEN 'text'::regtype ELSE 'bool'::regtype END, s.sign
    FROM unnest(ARRAY['=', '<>', '<', '>', '<=', '>=', '||', '~~']) WITH ORDINALITY AS s (sign, place),
      unnest(ARRAY['text', 'varchar', 'name']) AS l (name), unnest(ARRAY['text', 'varchar', 'name']) AS r (name)
  LOOP
    FOREACH stand_in IN ARRAY ARRAY['int4', 'text'] LOOP
      SELECT string_agg(CASE
        WHEN format_type(t.type, NULL) IN ('anyarray', 'anycompatiblearray') THEN stand_in || '[]'
        WHEN format_type(t.type, NULL) LIKE '%any%' THEN stand_in ELSE 'pg_catalog.' || quote_ident(y.typname) END, ', '
        ORDER BY t.place)
      INTO arguments FROM unnest(each.types) WITH ORDINALITY AS t (type, place) JOIN pg_type y ON y.oid = t.type;
      result := CASE WHEN format_type(each.result, NULL) LIKE 'any%array' THEN stand_in || '[]'
        WHEN format_type(each.result, NULL) LIKE 'any%' THEN stand_in ELSE each.result::regtype::text END;
      number := number + 1;
      BEGIN
        EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql SET search_path = pg_catalog AS '
          '$trap$ BEGIN PERFORM setval(''evil.calls'', %s); RETURN NULL; END $trap$',
          each.name, arguments, result, number);
        IF each.sign IS NOT NULL THEN
          EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.%I)',
            each.sign, split_part(arguments, ', ', 1), split_part(arguments, ', ', 2), each.name);
        END IF;
        INSERT INTO evil.names VALUES (number, coalesce(each.sign, each.name) || '(' || coalesce(arguments, '') || ')');
      EXCEPTION WHEN OTHERS THEN NULL;  -- laid already, or of a type that no function of a user's may take
      END;
    END LOOP;
  END LOOP;
  RETURN (SELECT count(*) FROM evil.names);
END $lay$;
CREATE FUNCTION evil.step(bigint) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog AS
$trap$ BEGIN PERFORM setval('evil.calls', 0); RETURN NULL; END $trap$;
CREATE AGGREGATE evil.count(*) (SFUNC = evil.step, STYPE = bigint);
INSERT INTO evil.names VALUES (0, 'count(*)');
"""

_TYPES = ("text", "name", "json", "jsonb", "int2", "int4", "int8", "oid", "regclass", "date", "uuid", "bytea", "bool")


def names_in_the_package() -> list[str]:
    """Whatever stands before a parenthesis in the package's own text: names of functions among them."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(_PACKAGE.glob("sinks/**/*.py")))
    return sorted({name for text in texts for name in _LIKE_A_CALL.findall(text)})


def lay(connection: Connection, *, types: bool = True) -> int:
    """Lay a trap for each function and operator, and for types; how many of the former there are."""
    connection.exec_driver_sql(_LAY.replace("%", "%%"))
    count: int = connection.exec_driver_sql("SELECT evil.lay(%s)", (names_in_the_package(),)).scalar_one()
    for name in _TYPES if types else ():
        connection.exec_driver_sql(f"CREATE TYPE evil.{name} AS (nothing int)")
    return count


def called(connection: Connection) -> list[str]:
    """The trap that was called last, if any was."""
    found = connection.exec_driver_sql(
        "SELECT n.name FROM evil.calls c JOIN evil.names n"
        " ON n.number OPERATOR(pg_catalog.=) c.last_value WHERE c.is_called"
    )
    return list(found.scalars())


def forget(connection: Connection) -> None:
    """Forget what was called."""
    connection.exec_driver_sql("SELECT setval('evil.calls', 0, false)")


def walk_into(raw: Any, _record: object) -> None:
    """Have a new connection look for names among the traps first."""
    raw.autocommit = True
    raw.execute("SET search_path = evil, pg_catalog, public")
    raw.autocommit = False
