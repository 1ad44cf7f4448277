"""The database's tables. `migrations/` builds them; a test holds the two together."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

# One row (id 1). `revision` numbers the snapshots; `key_check` tells whether the master key is the right one.
service = Table(
    "service",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("base_version", String(128), nullable=False),
    Column("policy_digest", String(128), nullable=False),
    Column("key_check", String(128), nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("name", String(256), unique=True),  # null where the version has no name
    Column("base_digest", String(128), nullable=False),
    Column("rank", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("blob", String(512), nullable=False),
    Column("parent", String(128), nullable=False),
    Column("source", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
)

aliases = Table(
    "aliases",
    metadata,
    Column("alias", String(256), primary_key=True),
    Column("generation", Integer, nullable=False),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("alias", String(256), ForeignKey("aliases.alias"), primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("targets", JSON, nullable=False),  # [[version, weight], ...]
    Column("committed_at", Double, nullable=False),
    Column("reason", Text, nullable=False),
    Column("principal", String(256), nullable=False),
)

# The latest canary of each alias. `step` counts from 0; a threshold that is null is not compared.
canaries = Table(
    "canaries",
    metadata,
    Column("alias", String(256), ForeignKey("aliases.alias"), primary_key=True),
    Column("version", String(128), nullable=False),
    Column("stable", String(128), nullable=False),
    Column("steps", JSON, nullable=False),
    Column("step_s", Double, nullable=False),
    Column("min_requests", Integer, nullable=False),
    Column("max_error_rate", Double, nullable=False),
    Column("max_error_increase", Double),
    Column("state", String(16), nullable=False),
    Column("step", Integer, nullable=False),
    Column("first_generation", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("began_at", Double, nullable=False),
    Column("step_began_at", Double, nullable=False),
    Column("alarm", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("principal", String(256), nullable=False),
)

# What each gateway has counted for the latest canary, by the generation that requests were routed by.
canary_outcomes = Table(
    "canary_outcomes",
    metadata,
    Column("alias", String(256), ForeignKey("aliases.alias"), primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("version", String(128), primary_key=True),
    Column("member", String(256), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
)

# `sealed` holds the whole request, encrypted with the key in `wrapped_key`; nothing else holds fact text.
erasures = Table(
    "erasures",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("request_id", String(256), nullable=False, unique=True),
    Column("content_mac", String(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("aliases", JSON, nullable=False),
    Column("fact_count", Integer, nullable=False),
    Column("ground", Text, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("round", Integer, nullable=False),
    Column("version", String(128), nullable=False),
    Column("detail", Text, nullable=False),
    Column("guard_revision", BigInteger, nullable=False),
    Column("suppressed_at", Double),  # null until every gateway has confirmed the guard
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("topic", String(320), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("principal", String(256), nullable=False),
    Column("data", JSON, nullable=False),
    Index("events_by_topic", "topic", "seq"),
    sqlite_autoincrement=True,
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("erasure_id", String(64), nullable=False, index=True),
    Column("worker", String(128), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("progress", JSON, nullable=False),
    Column("sealed_error", LargeBinary),
    Column("sealed_spec", LargeBinary),
    Column("sealed_result", LargeBinary),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("version", String(128), primary_key=True),
    Column("erasure_id", String(64), primary_key=True),
    Column("policy_digest", String(128), primary_key=True),
    Column("passed", Boolean, nullable=False),
    Column("audit_id", String(128), nullable=False),
    Column("failed_gates", JSON, nullable=False),
)

audits = Table(
    "audits",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("version", String(128), nullable=False, index=True),
    Column("erasure_id", String(64), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    Column("sealed_report", LargeBinary, nullable=False),
)

# Members with a lease when the registry last ran: after a restart they are waited for until they poll
# or expire.
members = Table(
    "members",
    metadata,
    Column("member", String(256), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("address", String(256), nullable=False),
)
