"""hdfs:/// as a mount table: the places of the savepoints under the paths and commands that Hadoop's operators know."""
