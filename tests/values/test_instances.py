"""Values land as SQLAlchemy itself would write them: types, defaults, expressions, ORM instances."""

import pytest
from generated import contents
from ids import shown
from sqlalchemy import (
    Column,
    Integer,
    Table,
    Text,
    event,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    declarative_base,
    deferred,
    mapped_column,
    registry,
)
from tables_of_values import (
    Base,
    Bicycle,
    Coin,
    Colour,
    DataBase,
    Person,
    Pet,
    Place,
    Point,
    Truck,
    Vehicle,
    Versioned,
    add,
    added,
    refused,
    rows_of,
)

from batchwrite import BatchWriter, OutcomeStatus


def test_an_instance_is_added_with_its_renamed_columns_and_defaults(orm):
    added(orm, Person(id=1, full_name="Ann"), Person(id=2, full_name="Bob", colour=None, note="x"))
    assert rows_of(orm, "person") == [(1, "Ann", Colour.RED, "none"), (2, "Bob", Colour.RED, "x")]


def test_an_instance_is_added_as_a_session_would(orm):
    def made():
        return [
            Person(id=1, full_name="Ann"),
            Person(id=2, full_name="Bob", colour=None, note=None),
            Person(id=3, alias="Cid", colour=Colour.GREEN),
            Pet(id=1),
            Pet(id=2, owner_id=2),
            Vehicle(id=1),
            Truck(id=2, load=3),
            Bicycle(id=3, bell="ring", wheels=2),
            Place(id=1, point=Point(3, 4)),
        ]

    with Session(orm) as session:
        session.add_all(made())
        session.commit()
    expected = contents(orm, Base.metadata)
    Base.metadata.drop_all(orm)
    Base.metadata.create_all(orm)
    added(orm, *made())
    assert contents(orm, Base.metadata) == expected


def test_generated_keys_of_instances_are_generated(orm):
    added(orm, Person(full_name="Ann"), Person(full_name="Bob"))
    assert [row[0] for row in rows_of(orm, "person")] == [1, 2]


def test_an_instance_that_is_a_dataclass_is_added(orm):
    added(orm, Coin(id=1), Coin(id=2, value=7))
    assert rows_of(orm, "coin", DataBase.metadata) == [(1, 5), (2, 7)]


def test_an_instance_mapped_without_a_base_is_added(engine, created):
    mapping = registry()
    table = Table("plain", mapping.metadata, Column("id", Integer, primary_key=True), Column("v", Integer))

    class Plain:
        def __init__(self, number):
            self.number = number

    mapping.map_imperatively(Plain, table, properties={"number": table.c.id})
    with created(engine, mapping.metadata):
        added(engine, Plain(3))
        assert contents(engine, mapping.metadata)["plain"] == [(3, None)]


def test_an_instance_of_several_tables_is_written_to_all(orm):
    added(orm, Truck(id=1, load=3), Truck(id=2))
    assert rows_of(orm, "vehicle") == [(1, "truck", 4, None), (2, "truck", 4, None)]
    assert rows_of(orm, "truck") == [(1, 3), (2, 10)]


def test_an_instance_of_several_tables_without_a_key_is_refused(orm):
    assert refused(orm, Truck(load=3)).column == "id"


@pytest.mark.parametrize("instance", [Person(id=1, full_name="Ann", pets=[Pet(id=1)]), Pet(id=1, owner=Person(id=1))])
def test_related_objects_are_refused_and_not_dropped(orm, instance):
    assert "relationship" in refused(orm, instance).message


def test_a_related_object_whose_key_is_set_is_fine(orm):
    ann = Person(id=1, full_name="Ann")
    added(orm, Person(id=1, full_name="Ann"), Pet(id=1, owner_id=1, owner=ann))
    assert rows_of(orm, "pet") == [(1, 1)]


def test_a_related_object_of_another_key_is_refused(orm):
    """The object says 2 and the column says 1: a session would write 2."""
    refused(orm, Pet(id=1, owner_id=1, owner=Person(id=2, full_name="Bob")))


@pytest.mark.parametrize("thing", [None, 5, "text", {}, object(), Person, Point(1, 2)], ids=shown)
def test_what_is_no_instance_is_refused(orm, thing):
    refused(orm, thing)


def test_an_instance_whose_attributes_have_expired_is_not_written_without_them(orm):
    """After a commit an instance holds nothing until it is looked at."""
    with Session(orm) as session:
        ann = Person(id=1, full_name="Ann", colour=Colour.GREEN)
        session.add(ann)
        session.commit()
        pet = Pet(id=5, owner_id=1)
        session.add(pet)
        session.commit()
        with orm.begin() as connection:
            connection.execute(Pet.__table__.delete())
        result = BatchWriter(orm).run([pet], add)
        session.rollback()
    rows = rows_of(orm, "pet")
    assert (rows, result.failed) in [([], 1), ([(5, 1)], 0)]


def test_an_instance_with_a_version_gets_its_first(orm):
    added(orm, Versioned(id=1))
    assert rows_of(orm, "versioned") == [(1, 1)]


def test_a_deferred_attribute_that_is_set_is_written(engine, created):
    class Own(DeclarativeBase):
        pass

    class Document(Own):
        __tablename__ = "document"

        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str | None] = deferred(mapped_column(Text))

    with created(engine, Own.metadata):
        added(engine, Document(id=1, body="text"))
        assert contents(engine, Own.metadata)["document"] == [(1, "text")]


def test_a_mapped_class_is_a_table(orm):
    def map_item(item, out):
        out.insert(Person, {"id": item, "full_name": "Ann"})
        out.upsert(Person, {"id": item, "full_name": "Bob"}, set="full_name")
        out.update(Person, {"id": item}, full_name="Cid", note=None)
        if item == 2:
            out.delete(Person, {"id": item})

    assert BatchWriter(orm).run([1, 2], map_item).written == 2
    assert rows_of(orm, "person") == [(1, "Cid", Colour.RED, None)]


def test_a_mapped_class_of_several_tables_is_refused_as_a_table(orm):
    result = BatchWriter(orm).run([1], lambda item, out: out.insert(Truck, {"id": 1}))
    assert "several tables" in result.failures[0].message


def test_a_class_of_a_shared_table_gets_its_identity_or_is_refused(orm):
    """A row without its discriminator could not be read as a bicycle again."""
    outcomes = list(BatchWriter(orm).stream([1], lambda item, out: out.insert(Bicycle, {"id": 1, "wheels": 2})))
    rows = rows_of(orm, "vehicle")
    assert outcomes[0].status is OutcomeStatus.FAILED or rows[0][1] == "bicycle"


def test_one_instance_may_be_added_again_by_another_item(orm):
    ann = Person(id=1, full_name="Ann")
    result = BatchWriter(orm).run([ann, ann], add)
    assert (result.written, result.failed) == (1, 1)


def test_an_instance_added_stays_out_of_every_session(orm):
    ann = Person(id=1, full_name="Ann")
    with Session(orm) as session:
        added(orm, ann)
        assert ann not in session
        assert session.get(Person, 1).full_name == "Ann"


def test_an_instance_may_be_changed_after_it_was_added(orm):
    ann = Person(id=1, full_name="Ann")
    with BatchWriter(orm).collect() as batch:
        with batch.item() as out:
            out.add(ann)
        ann.id, ann.full_name = 2, "Bob"
        with batch.item() as out:
            out.add(ann)
    assert [row[:2] for row in rows_of(orm, "person")] == [(1, "Ann"), (2, "Bob")]


def test_events_of_a_class_are_not_called_and_that_is_said_once(sqlite_engine, caplog):
    base = declarative_base()

    class Audited(base):
        __tablename__ = "audited"
        id = Column(Integer, primary_key=True, autoincrement=False)

    called = []
    event.listen(Audited, "before_insert", lambda *_: called.append(1))
    base.metadata.create_all(sqlite_engine)
    for ids in ([1, 2, 3], [4]):
        result = BatchWriter(sqlite_engine, chunk_size=2).run(ids, lambda it, out: out.add(Audited(id=it)))
        assert (result.written, called) == (len(ids), [])
    said = [record.getMessage() for record in caplog.records if "events" in record.getMessage()]
    assert len(said) == 1
    assert "Audited" in said[0]
