"""What carries out a job's operations: it copies a worker's state, and writes savepoints out of copies."""
