"""What a run leaves on disk, written so that a file is either whole or not there."""
