"""What is noted of a loop while it runs: which tensor was made how, and which of them is x."""
