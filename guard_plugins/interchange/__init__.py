"""Reading and writing the distilled sets of other code bases."""
