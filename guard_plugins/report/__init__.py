"""Results of a run: the model of ``report.json``, and how people read it."""
