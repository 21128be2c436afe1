"""Keys of annotations, names of authors and of classes such as a page may send back."""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

from anymask.engine.store.names import KEY, MAX_NAME, plain_key, plain_name

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Rename what came by an import and could not be changed since; it is known to the same import again."""
    versions = sa.table("annotation_versions", sa.column("id"), sa.column("parent"), sa.column("author"))
    _make_plain(sa.table("annotation_heads", sa.column("id"), sa.column("key")), "key")
    _make_plain(versions, "parent")
    tail = sa.func.substr(versions.c.author, sa.func.length(versions.c.author) - MAX_NAME + 1)
    op.execute(sa.update(versions).where(sa.func.length(versions.c.author) > MAX_NAME).values(author=tail))
    _make_classes_plain()


def _make_plain(table: sa.TableClause, name: str) -> None:
    connection = op.get_bind()
    ill = sa.select(table.c.id, table.c[name]).where(~table.c[name].regexp_match(rf"\A{KEY}\Z"))
    rows = [{"of": id, "to": plain_key(key)} for id, key in connection.execute(ill)]
    if rows:
        made = sa.update(table).where(table.c.id == sa.bindparam("of")).values({name: sa.bindparam("to")})
        connection.execute(made, rows)


def _make_classes_plain() -> None:
    """Add a list of classes with names that can be shown, where the present one has others."""
    names = ("revision", "client", "at", "digest", "classes")
    table = sa.table("class_sets", *map(sa.column, names))
    connection = op.get_bind()
    newest = connection.execute(sa.select(table).order_by(table.c.revision.desc()).limit(1)).one_or_none()
    if newest is None:
        return
    old = json.loads(newest.classes)
    new = [each | {"name": plain_name(each["name"])[:MAX_NAME] or f"class {each['id']}"} for each in old]
    if new != old:
        text = json.dumps(new)
        row = {"revision": newest.revision + 1, "client": newest.client, "at": newest.at, "classes": text}
        connection.execute(sa.insert(table).values(digest=hashlib.sha256(text.encode()).hexdigest(), **row))
