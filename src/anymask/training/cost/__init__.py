"""What a run costs: operations, memory, hours."""
