"""What a run would take: small samples of its work, timed and multiplied."""
