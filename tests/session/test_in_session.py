"""Writing in a transaction of the caller's: under savepoints, never committed, gone when he rolls back."""

import asyncio
import threading
from contextlib import suppress

import pytest
from databases import async_engine_for
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    NullPool,
    Table,
    create_engine,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import PendingRollbackError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, declarative_base, scoped_session, sessionmaker

from batchwrite import BatchResult, BatchWriter, Coalescer, ConfigurationError, Ledger, RetryPolicy, Status
from batchwrite.aio import AsyncBatchWriter

Base = declarative_base(metadata=MetaData())


class Parent(Base):
    __tablename__ = "session_parents"
    id = Column(Integer, primary_key=True, autoincrement=False)
    n = Column(Integer, nullable=False)
    __table_args__ = (CheckConstraint("n >= 0", name="ck_parents_n"),)


class Child(Base):
    __tablename__ = "session_children"
    id = Column(Integer, primary_key=True, autoincrement=False)
    parent_id = Column(ForeignKey(Parent.id), nullable=False)


@pytest.fixture
def database(engine):
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def postgres(postgres_engine):
    Base.metadata.create_all(postgres_engine)
    return postgres_engine


def write(number, out):
    out.insert(Parent, {"id": abs(number), "n": number})


def ids(owner, model=Parent):
    return list(owner.scalars(select(model.id).order_by(model.id)))


def ids_seen_by_others(engine, model=Parent):
    with engine.connect() as connection:
        return ids(connection, model)


def owners(engine):
    yield Session(engine)
    yield engine.connect()
    yield scoped_session(sessionmaker(engine))


@given(
    st.lists(st.integers(-4, 12).filter(bool), max_size=15),
    st.integers(1, 6),
    st.sampled_from(["commit", "rollback"]),
    st.integers(0, 2),
)
def test_the_caller_decides_what_becomes_of_all_of_it(shared_engine, emptied, numbers, size, ending, which):
    with emptied(Base.metadata):
        owner = list(owners(shared_engine))[which]
        owner.execute(insert(Parent), [{"id": 100, "n": 1}])
        result = BatchWriter.in_session(owner, chunk_size=size).run(numbers, write)
        good = []
        for number in numbers:
            if number > 0 and number not in good:
                good.append(number)
        assert (result.written, result.failed, result.abort) == (len(good), len(numbers) - len(good), None)
        assert ids(owner) == [*sorted(good), 100]
        getattr(owner, ending)()
        owner.close()
        assert ids_seen_by_others(shared_engine) == ([*sorted(good), 100] if ending == "commit" else [])
        for other in owners(shared_engine):
            other.close()


def test_nobody_else_sees_anything_before_the_caller_commits(postgres):
    with Session(postgres) as session:
        BatchWriter.in_session(session, chunk_size=2).run([1, -2, 3, 4], write)
        assert ids_seen_by_others(postgres) == []
        session.commit()
    assert ids_seen_by_others(postgres) == [1, 3, 4]


def test_what_the_session_holds_is_flushed_before(database):
    with Session(database) as session:
        session.add(Parent(id=1, n=1))
        result = BatchWriter.in_session(session).run(
            [10, 11], lambda key, out: out.add(Child(id=key, parent_id=1 if key == 10 else 2))
        )
        assert (result.written, result.failed) == (1, 1)
        session.commit()
    assert ids_seen_by_others(database, Child) == [10]


def test_what_the_session_cannot_flush_is_no_items_fault(database):
    with Session(database) as session:
        session.add(Parent(id=1, n=-1))
        result = BatchWriter.in_session(session).run([10, 11], write)
        assert (result.failed, result.unattempted, result.abort.reason) == (0, 2, "fatal")
        assert "flushed" in result.abort.message
        session.rollback()


def test_a_failure_of_an_item_leaves_the_callers_own_work(database):
    with database.begin() as connection:
        connection.execute(insert(Parent), [{"id": 50, "n": 1}])
        BatchWriter.in_session(connection).run([-1, -2], write)
        connection.execute(update(Parent).values(n=7))
    with database.connect() as connection:
        assert connection.execute(select(Parent.id, Parent.n)).all() == [(50, 7)]


def test_rows_are_copied_where_they_can_be(postgres, caplog):
    caplog.set_level("DEBUG", "batchwrite.sql")
    with postgres.begin() as connection:
        result = BatchWriter.in_session(connection).run(range(1, 2_001), write)
    assert result.written == 2_000
    said = [record.getMessage() for record in caplog.records]
    assert any("COPY" in statement for statement in said)
    assert not any(statement.startswith(("BEGIN", "COMMIT")) for statement in said)


def test_updates_increments_and_deletes_are_in_it_too(database):
    def map_item(item, out):
        kind, key = item
        if kind == "increment":
            out.increment(Parent, {"id": key}, n=1)
        elif kind == "upsert":
            out.upsert(Parent, {"id": key, "n": 5})
        else:
            out.delete(Parent, {"id": key})

    with Session(database) as session:
        session.add_all([Parent(id=1, n=1), Parent(id=2, n=1)])
        result = BatchWriter.in_session(session).run(
            [("increment", 1), ("increment", 1), ("upsert", 3), ("delete", 2), ("increment", 9)], map_item
        )
        assert (result.written, result.failed) == (4, 1)
        assert session.execute(select(Parent.id, Parent.n).order_by(Parent.id)).all() == [(1, 3), (3, 5)]
        session.rollback()
    assert ids_seen_by_others(database) == []


@pytest.mark.parametrize("ending", ["commit", "rollback"])
@pytest.mark.parametrize("kind", [AsyncSession, AsyncConnection])
def test_sessions_of_event_loops(database, kind, ending):
    async def scenario():
        engine = async_engine_for(database, poolclass=NullPool)
        owner = AsyncSession(engine) if kind is AsyncSession else await engine.connect()
        await owner.execute(insert(Parent), [{"id": 100, "n": 1}])
        result = await AsyncBatchWriter.in_session(owner, chunk_size=3).run([1, 2, -3, 4, 4, 5], write)
        assert (result.written, result.failed) == (4, 2)
        await getattr(owner, ending)()
        await owner.close()

    asyncio.run(scenario())
    assert ids_seen_by_others(database) == ([1, 2, 4, 5, 100] if ending == "commit" else [])


def test_a_connection_that_is_lost_ends_the_run_and_the_transaction(postgres):
    killer = create_engine(postgres.url, poolclass=NullPool)

    def map_item(number, out):
        if number == 3:
            with killer.connect() as connection:
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
        write(number, out)

    with Session(postgres) as session:
        session.execute(select(1))
        result = BatchWriter.in_session(session, chunk_size=2).run(range(1, 7), map_item)
        assert (result.abort.reason, result.unknown, result.written) == ("lost", 0, 2)
        assert result.unattempted == result.received - 2
        with pytest.raises(SQLAlchemyError):
            session.commit()
        session.rollback()
    postgres.dispose()
    assert ids_seen_by_others(postgres) == []


@pytest.mark.parametrize("engine", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("size", [1, 2])
def test_where_the_order_of_keys_ends(database, size):
    """Two sessions that change the same rows in chunks of their own order: only the rows of one chunk are in order.

    With both rows in one chunk one session waits for the other. With a chunk each they deadlock; one of them is told
    so, and that its last item is not attempted; nothing of it lands by itself, and all of it when it is done again.
    """
    with database.begin() as connection:
        connection.execute(insert(Parent), [{"id": key, "n": 0} for key in (1, 2)])
    results: dict[str, BatchResult] = {}
    both = threading.Barrier(2)

    def increment(key, out):
        out.increment(Parent, {"id": key}, n=1)

    def keys(order):
        yield order[0]
        if size == 1:
            both.wait(60)  # the chunk of the first is written when more is read
        yield order[1]

    def change(name, order):
        with Session(database) as session:
            results[name] = BatchWriter.in_session(session, chunk_size=size).run(keys(order), increment)
            if results[name].abort is None:
                session.commit()
                return
            with suppress(SQLAlchemyError):  # where the whole transaction is gone with the deadlock
                assert session.scalar(select(func.sum(Parent.n))) == results[name].written
                assert database.dialect.name == "postgresql"
            session.rollback()

    orders = {"up": [1, 2], "down": [2, 1]}
    threads = [threading.Thread(target=change, args=each) for each in orders.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    victims = [name for name, result in results.items() if result.abort is not None]
    assert len(victims) == (1 if size == 1 else 0)
    for victim in victims:
        result = results[victim]
        assert (result.status, result.abort.reason) == (Status.ABORTED, "transient")
        assert "deadlock" in result.abort.message.lower()
        assert (result.written, result.failed, result.unattempted) == (1, 0, 1)
        with Session(database) as session:
            assert BatchWriter.in_session(session).run(orders[victim], increment).written == 2
            session.commit()
    with database.connect() as connection:
        assert list(connection.scalars(select(Parent.n).order_by(Parent.id))) == [2, 2]


def test_a_deadlock_that_undoes_the_whole_transaction_cannot_be_overlooked(mariadb_engine):
    """MariaDB rolls all of a deadlock's victim back, not only the savepoint."""
    Base.metadata.create_all(mariadb_engine)
    with mariadb_engine.begin() as connection:
        connection.execute(insert(Parent), [{"id": key, "n": 1} for key in range(1, 60)])
    other = mariadb_engine.connect()
    other.execute(update(Parent).where(Parent.id > 1).values(n=Parent.n + 1))  # the heavier one: it survives
    owner = mariadb_engine.connect()
    owner.execute(update(Parent).where(Parent.id == 1).values(n=77))
    waiting = threading.Thread(target=lambda: other.execute(update(Parent).where(Parent.id == 1).values(n=5)))
    waiting.start()
    result = BatchWriter.in_session(owner).run([2], lambda key, out: out.update(Parent, {"id": key}, n=9))
    waiting.join()
    assert (result.abort.reason, result.unattempted) == ("transient", 1)
    with pytest.raises(PendingRollbackError):
        owner.execute(insert(Parent), [{"id": 500, "n": 1}])
    owner.rollback()
    owner.close()
    other.rollback()
    other.close()
    assert 500 not in ids_seen_by_others(mariadb_engine)


@pytest.mark.parametrize("name", ["postgres_engine", "sqlite_engine"])
def test_constraints_that_are_deferred_wait_for_the_callers_commit(request, name):
    engine = request.getfixturevalue(name)
    base = declarative_base(metadata=MetaData())

    class Owner(base):
        __tablename__ = "late_parents"
        id = Column(Integer, primary_key=True, autoincrement=False)

    class Owned(base):
        __tablename__ = "late_children"
        id = Column(Integer, primary_key=True, autoincrement=False)
        owner_id = Column(ForeignKey(Owner.id, deferrable=True, initially="DEFERRED"), nullable=False)

    base.metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(insert(Owned), [{"id": 1, "owner_id": 7}])  # the caller's own, to be mended later
        children = [{"id": 2, "owner_id": 7}, {"id": 2, "owner_id": 7}, {"id": 3, "owner_id": 8}]
        result = BatchWriter.in_session(session).run(children, lambda row, out: out.insert(Owned, row))
        assert (result.written, result.failed, result.abort) == (2, 1, None)
        session.execute(insert(Owner), [{"id": 7}, {"id": 8}])
        session.commit()
        assert session.scalar(select(func.count()).select_from(Owned)) == 3
        session.execute(delete(Owned))
        session.rollback()


@pytest.mark.parametrize(
    "options", [{"retry": RetryPolicy()}, {"ledger": Ledger()}, {"chunk_timeout": 3.0}, {"key": lambda item: item}]
)
def test_what_needs_a_transaction_of_its_own_is_refused(sqlite_engine, options):
    with Session(sqlite_engine) as session, pytest.raises(ConfigurationError, match=r"leave out|needs"):
        BatchWriter.in_session(session, **options)


def test_a_transaction_is_not_for_many_callers(sqlite_engine):
    with Session(sqlite_engine) as session, pytest.raises(ConfigurationError, match="coalescer"):
        Coalescer(BatchWriter.in_session(session), write)


def test_a_session_that_is_bound_to_nothing_is_refused():
    with pytest.raises(ConfigurationError, match="bound"):
        BatchWriter.in_session(Session())


def test_a_session_of_an_event_loop_needs_an_async_writer(sqlite_engine):
    engine = create_async_engine("sqlite+aiosqlite://")
    with pytest.raises(ConfigurationError, match="AsyncBatchWriter"):
        BatchWriter.in_session(AsyncSession(engine))
    with Session(sqlite_engine) as session, pytest.raises(ConfigurationError, match="BatchWriter"):
        AsyncBatchWriter.in_session(session)


@pytest.mark.parametrize("name", ["postgres_engine", "mariadb_engine"])  # SQLite begins when it is told to, even so
def test_an_engine_that_commits_every_statement_is_refused(request, name):
    database = request.getfixturevalue(name)
    Base.metadata.create_all(database)
    with database.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        result = BatchWriter.in_session(connection).run([1], write)
    assert (result.abort.reason, result.unattempted) == ("fatal", 1)
    assert "AUTOCOMMIT" in result.abort.message


def test_a_connection_of_sqlite_that_commits_every_statement_is_refused(sqlite_engine):
    Base.metadata.create_all(sqlite_engine)
    with sqlite_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        result = BatchWriter.in_session(connection).run([1], write)
        connection.execute(insert(Parent), [{"id": 7, "n": 1}])
    assert "AUTOCOMMIT" in result.abort.message
    assert ids_seen_by_others(sqlite_engine) == [7]


def test_a_table_that_the_session_has_elsewhere_is_refused(sqlite_engine, tmp_path):
    elsewhere = create_engine(f"sqlite:///{tmp_path}/elsewhere.db", poolclass=NullPool)
    for each in (sqlite_engine, elsewhere):
        Base.metadata.create_all(each)
    with Session(sqlite_engine, binds={Parent: elsewhere}) as session:
        result = BatchWriter.in_session(session).run([1], write)
        assert "another database" in result.failures[0].message
        session.commit()
    assert ids_seen_by_others(sqlite_engine) == ids_seen_by_others(elsewhere) == []


@pytest.mark.parametrize("given", ["engine", "url", None])
def test_what_is_no_session_is_refused(sqlite_engine, given):
    target = {"engine": sqlite_engine, "url": str(sqlite_engine.url)}.get(given)
    with pytest.raises(ConfigurationError, match="no class of sessions"):
        BatchWriter.in_session(target)


def test_a_scoped_session_is_the_one_of_the_moment(database):
    registry = scoped_session(sessionmaker(database))
    writer = BatchWriter.in_session(registry)
    for number in (1, 2):
        assert writer.run([number], write).written == 1
        registry.commit()
        registry.remove()
    assert ids_seen_by_others(database) == [1, 2]
    assert database.pool.checkedout() == 0


def test_a_task_of_its_own_must_not_use_the_callers_session(sqlite_engine):
    async def scenario():
        engine = create_async_engine(sqlite_engine.url.set(drivername="sqlite+aiosqlite"), poolclass=NullPool)
        async with AsyncSession(engine) as session, AsyncBatchWriter.in_session(session).collect(flush_after=1):
            pass

    with pytest.raises(ConfigurationError, match="meanwhile"):
        asyncio.run(scenario())


def test_a_copy_that_cannot_be_made_leaves_the_owners_transaction_alone(postgres_engine):
    """Columns of some types have no fast path, which may come out while the rows are sent; so may a bad value."""
    metadata = MetaData()
    table = Table(
        "t",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("kind", postgresql.REGCONFIG),
        Column("n", Integer),
    )
    metadata.create_all(postgres_engine)
    rows = [{"id": number, "kind": "simple"} for number in range(150)]
    odd = [{"id": 1_000 + number, "n": number if number != 140 else object()} for number in range(150)]
    with postgres_engine.connect() as connection:
        connection.execute(table.insert(), {"id": 5_000})
        with BatchWriter.in_session(connection) as writer:
            result = writer.run(rows, lambda row, out: out.insert(table, row))
            assert (result.written, result.abort) == (150, None)
            result = writer.run(odd, lambda row, out: out.insert(table, row))
            assert (result.written, result.failed, result.abort) == (149, 1, None)
        connection.commit()
        assert connection.scalar(select(func.count()).select_from(table)) == 300
