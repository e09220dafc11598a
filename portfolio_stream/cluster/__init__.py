"""Workers as child processes of one host: those of a `run`, and those that a supervisor keeps."""
