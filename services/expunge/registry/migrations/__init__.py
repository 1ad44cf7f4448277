"""Database migrations, run by `registry.database` at start.

`HEAD` names the newest revision. A database that already has it is not touched, and alembic is not even
imported then: a restart of the registry must stay well inside the gateways' lease.
"""

HEAD = "0002"
