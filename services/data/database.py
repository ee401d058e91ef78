"""The data service's tables and its database."""

from services.kit.schema import Schema

schema = Schema("data")
open_database = schema.database
