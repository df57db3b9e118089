"""The words of every error the hook raises: what happened, what was seen, what to do."""
