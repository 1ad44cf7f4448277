"""First schema: versions, rollouts, erasures, events, jobs, verdicts, audits, members."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_serving_tables()
    _create_erasure_tables()
    _create_work_tables()


def downgrade() -> None:
    for table in (
        "members",
        "audits",
        "verdicts",
        "jobs",
        "events",
        "erasures",
        "rollouts",
        "aliases",
        "versions",
        "service",
    ):
        op.drop_table(table)


def _create_serving_tables() -> None:
    op.create_table(
        "service",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("base_version", sa.String(128), nullable=False),
        sa.Column("policy_digest", sa.String(128), nullable=False),
        sa.Column("key_check", sa.String(128), nullable=False),
    )
    op.create_table(
        "versions",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(256), unique=True),
        sa.Column("base_digest", sa.String(128), nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("blob", sa.String(512), nullable=False),
        sa.Column("parent", sa.String(128), nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_table(
        "aliases",
        sa.Column("alias", sa.String(256), primary_key=True),
        sa.Column("generation", sa.Integer, nullable=False),
    )
    op.create_table(
        "rollouts",
        sa.Column("alias", sa.String(256), sa.ForeignKey("aliases.alias"), primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("targets", sa.JSON, nullable=False),
        sa.Column("committed_at", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("principal", sa.String(256), nullable=False),
    )
    op.create_table(
        "members",
        sa.Column("member", sa.String(256), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("address", sa.String(256), nullable=False),
    )


def _create_erasure_tables() -> None:
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("request_id", sa.String(256), nullable=False, unique=True),
        sa.Column("content_mac", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("aliases", sa.JSON, nullable=False),
        sa.Column("fact_count", sa.Integer, nullable=False),
        sa.Column("ground", sa.Text, nullable=False),
        sa.Column("due_at", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("version", sa.String(128), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("guard_revision", sa.BigInteger, nullable=False),
        sa.Column("suppressed_at", sa.Double),
        sa.Column("wrapped_key", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "verdicts",
        sa.Column("version", sa.String(128), primary_key=True),
        sa.Column("erasure_id", sa.String(64), primary_key=True),
        sa.Column("policy_digest", sa.String(128), primary_key=True),
        sa.Column("passed", sa.Boolean, nullable=False),
        sa.Column("audit_id", sa.String(128), nullable=False),
        sa.Column("failed_gates", sa.JSON, nullable=False),
    )
    op.create_table(
        "audits",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("version", sa.String(128), nullable=False, index=True),
        sa.Column("erasure_id", sa.String(64), nullable=False, index=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("sealed_report", sa.LargeBinary, nullable=False),
    )


def _create_work_tables() -> None:
    op.create_table(
        "events",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("topic", sa.String(320), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("principal", sa.String(256), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_topic", "events", ["topic", "seq"])
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("erasure_id", sa.String(64), nullable=False, index=True),
        sa.Column("worker", sa.String(128), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("progress", sa.JSON, nullable=False),
        sa.Column("sealed_error", sa.LargeBinary),
        sa.Column("sealed_spec", sa.LargeBinary),
        sa.Column("sealed_result", sa.LargeBinary),
    )
