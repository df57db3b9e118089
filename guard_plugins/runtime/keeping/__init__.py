"""What of a loop is kept, so that it goes on after a stop: states, a method's own files, where both are."""
