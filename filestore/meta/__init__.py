"""Metadata: the tables, the queries on them (one module per aggregate), the migrations.

Lock order everywhere: instance, uploads, groups (by id), entries (folder before child), contents,
versions, gc_queue (by block), blocks (by id), blocks going live (by hash).
"""
