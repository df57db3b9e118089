"""What a replay finds and puts back: arguments, containers, modules, random streams."""
