"""Alembic's entry point: runs on the connection that `registry.database` passes in."""

from __future__ import annotations

from alembic import context

from expunge.registry.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
