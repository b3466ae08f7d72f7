"""Bulk methods that are decorated: they say what became of each entity, and are not taken for what raises."""

import asyncio
import contextlib

import pytest
from stores import Atomic

from batchwrite import BatchWriter, ConfigurationError, Status, batched


class Shop:
    def __init__(self):
        self.store = Atomic()

    def create(self, entity):
        self.store.insert_one(entity)

    @batched("create", atomic=True, chunk_size=2)
    def create_all(self, entities):
        """Create many."""
        self.store.insert_many(entities)

    async def create_later(self, entity):
        self.store.insert_one(entity)

    @batched("create_later", atomic=True)
    async def create_all_later(self, entities):
        self.store.insert_many(entities)

    @batched(lambda shop, entity: shop.create(entity), atomic=True)
    def create_some(self, entities):
        self.store.insert_many(entities)


def test_a_decorated_method_says_what_became_of_each():
    shop = Shop()
    result = shop.create_all(number for number in (1, -2, 3))
    assert (result.written, result.failed, shop.store.stored) == (2, 1, [1, 3])
    assert shop.create_all.__doc__ == "Create many."
    assert asyncio.run(shop.create_all_later([4, -5])).written == 1
    assert shop.create_some([6, 6]).failed == 1


def test_a_decorated_function():
    store = Atomic()

    @batched(store.insert_one, atomic=True)
    def insert_all(entities):
        store.insert_many(entities)

    assert insert_all([1, 1]).failed == 1
    for arguments in [(1,), (), ([1], [2], [3])]:
        with pytest.raises(ConfigurationError, match="one iterable"):
            insert_all(*arguments)
    with pytest.raises(ConfigurationError, match="names a method"):
        batched("create")(insert_all)([1])
    with pytest.raises(ConfigurationError, match="insert_one"):
        batched(3)


class Circle:
    """Whose method for one entity calls the decorated one."""

    def __init__(self):
        self.store = Atomic()

    def create(self, entity):
        self.create_all([entity])

    @batched("create", atomic=True)
    def create_all(self, entities):
        self.store.insert_many(entities)

    async def create_later(self, entity):
        await self.create_all_later([entity])

    @batched("create_later", atomic=True)
    async def create_all_later(self, entities):
        self.store.insert_many(entities)


class CarefulCircle(Circle):
    """That catches what it is told."""

    def create(self, entity):
        with contextlib.suppress(ConfigurationError):
            self.create_all([entity])


class Nested(Shop):
    """Whose bulk method calls the one that the class above has decorated."""

    @batched("create", atomic=True)
    def create_all(self, entities):
        super().create_all(entities)


@pytest.mark.parametrize("kind", [Circle, CarefulCircle])
def test_a_single_method_that_calls_the_decorated_one_is_refused(kind):
    circle = kind()
    assert circle.create_all([1, 2]).written == 2  # nobody asks for the single method
    with pytest.raises(ConfigurationError, match="create_all was called again"):
        circle.create_all([3, -4, 5])
    assert circle.store.stored == [1, 2]
    assert circle.create_all([6]).written == 1
    assert kind().create_all([7]).written == 1


def test_a_single_method_that_calls_the_decorated_one_is_refused_when_called_by_itself():
    circle = Circle()
    circle.create(1)
    with pytest.raises(ConfigurationError, match="called again"):
        circle.create(-1)


def test_a_single_method_that_calls_the_decorated_one_is_refused_when_awaited():
    with pytest.raises(ConfigurationError, match="create_all_later was called again"):
        asyncio.run(Circle().create_all_later([1, -2]))


def test_two_repositories_may_be_at_work_at_a_time():
    shop = Shop()

    plain = shop.store.insert_many
    shop.store.insert_many = lambda entities: (Shop().create_all(entities), plain(entities))
    assert shop.create_all([1, 2, 3]).written == 3

    async def both():
        circle = Circle()
        return await asyncio.gather(circle.create_all_later([1]), circle.create_all_later([2]))

    assert [result.written for result in asyncio.run(both())] == [1, 1]


def test_a_bulk_method_that_calls_the_one_that_it_overrides_is_refused():
    with pytest.raises(ConfigurationError, match="called again"):
        Nested().create_all([1, -2])


@pytest.mark.parametrize("entities", [[1, -2], [-1]])
def test_a_writer_in_front_of_a_decorated_method_takes_no_failure_for_a_success(entities):
    shop = Shop()
    writer = BatchWriter.for_repository(insert_many=shop.create_all, insert_one=shop.create, atomic=True)
    assert writer.run([3, 4]).written == 2
    result = writer.run(entities)
    assert (result.status, result.written, result.unknown) == (Status.UNKNOWN, 0, len(entities))
    assert "decorated" in result.abort.message
