"""Kinds of the core group: Pod and what it is made of, Service, Node, volumes, ConfigMap, Secret, …"""
