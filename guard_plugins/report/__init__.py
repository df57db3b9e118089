"""Renders results as HTML, Markdown and JSON."""
