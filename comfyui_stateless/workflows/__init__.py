"""Workflow endpoints: files that turn named inputs into graphs."""
