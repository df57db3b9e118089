"""The data sets that ship with the project, one per file."""
