"""The teachers of a run that has several: declared by its method, trained one by one, shared by a cache."""
