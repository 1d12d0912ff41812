"""Kinds of the discovery group."""
