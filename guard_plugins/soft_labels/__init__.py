"""Soft labels stored ahead of training (FKD), as an alternative to asking the teacher online."""
