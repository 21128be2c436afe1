"""Alembic's migrations of a project's database, each a step from one version of the tables to the next."""
