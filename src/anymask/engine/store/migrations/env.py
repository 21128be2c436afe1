"""What Alembic runs to migrate: on the connection, and in the transaction, that it is handed."""

from alembic import context

from anymask.engine.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
