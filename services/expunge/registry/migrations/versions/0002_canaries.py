"""Canaries: their plans, and what gateways counted for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "canaries",
        sa.Column("alias", sa.String(256), sa.ForeignKey("aliases.alias"), primary_key=True),
        sa.Column("version", sa.String(128), nullable=False),
        sa.Column("stable", sa.String(128), nullable=False),
        sa.Column("steps", sa.JSON, nullable=False),
        sa.Column("step_s", sa.Double, nullable=False),
        sa.Column("min_requests", sa.Integer, nullable=False),
        sa.Column("max_error_rate", sa.Double, nullable=False),
        sa.Column("max_error_increase", sa.Double),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("first_generation", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("began_at", sa.Double, nullable=False),
        sa.Column("step_began_at", sa.Double, nullable=False),
        sa.Column("alarm", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("principal", sa.String(256), nullable=False),
    )
    op.create_table(
        "canary_outcomes",
        sa.Column("alias", sa.String(256), sa.ForeignKey("aliases.alias"), primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.String(128), primary_key=True),
        sa.Column("member", sa.String(256), primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("canary_outcomes")
    op.drop_table("canaries")
