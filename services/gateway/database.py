"""The gateway service's tables and its database."""

from services.kit.schema import Schema

schema = Schema("gateway")
open_database = schema.database
