"""Stored soft labels (FKD): the views of a student's training and the teacher's logits on them, kept on disk."""
