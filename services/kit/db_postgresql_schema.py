"""What every table on PostgreSQL must have, whichever revision made it.

Texts in the order of their letters' numbers, as SQLite has them and as pages need it, and rows that only their tenant
sees.
"""

import logging

from sqlalchemy import text
from sqlalchemy.engine import Connection

from services.kit.tenancy import EVERYBODY

log = logging.getLogger(__name__)
# Columns with another collation than C, as ALTER TABLE wants them, by table.
_UNSORTED = text("""
    SELECT c.oid::regclass::text, string_agg(format(
        'ALTER COLUMN %I TYPE %s COLLATE "C"', a.attname, format_type(a.atttypid, a.atttypmod)), ', ')
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
        AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attcollation NOT IN (0, (SELECT oid FROM pg_collation WHERE collname = 'C'
            AND collnamespace = 'pg_catalog'::regnamespace))
    GROUP BY c.oid
""")
_OPEN = text("""
    SELECT c.oid::regclass::text
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant' AND NOT a.attisdropped
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
        AND NOT (c.relrowsecurity AND c.relforcerowsecurity
            AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'own_rows'))
""")
# A transaction that has not said whose it is sees nothing: the setting is then NULL or empty.
_POLICY = f"""
    CREATE POLICY own_rows ON %s
    USING (tenant = current_setting('aimass.tenant', true) OR current_setting('aimass.tenant', true) = '{EVERYBODY}')
"""
_POWERFUL = text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")


def finish(connection: Connection) -> None:
    """Gives to the tables what they lack; a second time changes nothing."""
    for table, changes in connection.execute(_UNSORTED).all():
        connection.exec_driver_sql(f"ALTER TABLE {table} {changes}")
    for (table,) in connection.execute(_OPEN).all():
        connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        connection.exec_driver_sql(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        connection.exec_driver_sql(f"DROP POLICY IF EXISTS own_rows ON {table}")
        connection.exec_driver_sql(_POLICY % table)
    if connection.execute(_POWERFUL).scalar():
        log.warning("the role of this database passes row-level security: give it one that is no superuser")
