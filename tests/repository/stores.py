"""Repositories for the tests: what they have stored, and how often they were called."""

from batchwrite import PartialFailure


class Refused(Exception):
    """An entity that a store does not take."""


class Store:
    """Numbers of at least 0, each once at most. Bulk writes stop at the first bad one and keep what came before."""

    def __init__(self):
        self.stored = []
        self.singles = []
        self.calls = 0

    def check(self, entity):
        if entity < 0 or entity in self.stored:
            raise Refused(f"not {entity}")

    def insert_one(self, entity):
        self.singles.append(entity)
        self.check(entity)
        self.stored.append(entity)

    def insert_many(self, entities):
        self.calls += 1
        for entity in entities:
            self.check(entity)
            self.stored.append(entity)


class Atomic(Store):
    """Bulk writes of it write all or nothing."""

    def insert_many(self, entities):
        before = self.stored[:]
        try:
            super().insert_many(entities)
        except Refused:
            self.stored = before
            raise


class Idempotent(Store):
    """What is there already may be inserted again."""

    def check(self, entity):
        if entity < 0:
            raise Refused(f"not {entity}")

    def insert_one(self, entity):
        super().insert_one(entity)
        self.stored = list(dict.fromkeys(self.stored))

    def insert_many(self, entities):
        try:
            super().insert_many(entities)
        finally:
            self.stored = list(dict.fromkeys(self.stored))


class BulkWriteError(Exception):
    """By its form PyMongo's."""

    def __init__(self, details):
        super().__init__("batch op errors occurred")
        self.details = details


class Telling(Store):
    """Says which it has refused; `form` says how, and whether it stops at the first."""

    def __init__(self, form):
        super().__init__()
        self.form = form

    def insert_many(self, entities):
        self.calls += 1
        refused = {}
        is_ordered = self.form in {"mongo ordered", "own ordered"}
        for place, entity in enumerate(entities):
            try:
                self.check(entity)
            except Refused as error:
                refused[place] = error
                if is_ordered:
                    break
            else:
                self.stored.append(entity)
        return self.answer(list(entities), refused)

    def answer(self, entities, refused):
        left = range(max(refused) + 1, len(entities)) if refused else ()
        match self.form:
            case "mongo ordered" | "mongo":
                if refused:
                    errors = [{"index": place, "code": 121, "errmsg": str(refused[place])} for place in refused]
                    count = max(refused) if self.form == "mongo ordered" else len(entities) - len(refused)
                    raise BulkWriteError({"writeErrors": errors, "nInserted": count})
            case "own" if refused:
                raise PartialFailure(refused)
            case "own ordered" if refused:
                raise PartialFailure(refused, unattempted=left)
            case "list":
                return [refused.get(place) for place in range(len(entities))]
            case "pairs":
                return [(place, error) for place, error in refused.items()]
            case "mappings":
                return [{"index": place, "error": "bad", "code": 7} for place in refused]
            case "elastic":
                return {
                    "errors": bool(refused),
                    "items": [
                        {"index": {"status": 400, "error": {"type": "parsing", "reason": "bad"}}}
                        if place in refused
                        else {"index": {"status": 201}}
                        for place in range(len(entities))
                    ],
                }
        return None


FORMS = ["mongo ordered", "mongo", "own", "own ordered", "list", "pairs", "mappings", "elastic"]
