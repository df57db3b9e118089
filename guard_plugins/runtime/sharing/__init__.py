"""Items of a stage, each made once and kept in a file, and the processes that share them."""
