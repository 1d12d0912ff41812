"""Kinds of the storage group."""
