"""Runs cycles and backfills over all sources. The one package that uses all others."""
