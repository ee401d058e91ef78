"""The trainer service's tables and its database."""

from services.kit.schema import Schema

schema = Schema("trainer")
open_database = schema.database
