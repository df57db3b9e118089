"""The regularised objective: its settings, its formula, its value over several processes, its counts."""
