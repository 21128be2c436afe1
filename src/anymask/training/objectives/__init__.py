"""What a run learns: for each objective the model it builds, the batches it sees and one step of it."""
