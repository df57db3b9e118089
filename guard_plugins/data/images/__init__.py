"""From image files in folders to splits of a data set."""
