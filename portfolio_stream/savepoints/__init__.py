"""Savepoints: a job's whole state in open files, which a restore, an audit and other people's tools read.

This package is the format and its store. The package knows no table, no engine and no Kafka: who writes a savepoint
gives it the rows of a changelog, and a `RowForm` that says how a row looks to people.

1. A savepoint is complete when its manifest.json is there. Nothing else decides. The manifest is put last, and only if
   there is none.
2. Files are put whole or not at all, and never change. A data file's name has the hash of its bytes, so two writers
   never give different bytes to one name.
3. What a manifest says is checked before anything is read or deleted by it: a manifest names only files inside its own
   savepoint.
"""
