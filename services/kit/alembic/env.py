"""How Alembic gets its connection: from services.kit.migrations, nowhere else."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
