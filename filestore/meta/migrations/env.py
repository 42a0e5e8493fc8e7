"""Run by Alembic: migrates over the connection it was handed, in the caller's transaction."""

from alembic import context

from filestore.meta.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
