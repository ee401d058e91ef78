"""The inference service's tables and its database."""

from services.kit.schema import Schema

schema = Schema("inference")
open_database = schema.database
