"""The registry service's tables and its database."""

from services.kit.schema import Schema

schema = Schema("registry")
open_database = schema.database
