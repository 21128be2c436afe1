"""Fine-tuning on a user's own pictures: cached embeddings, low-rank matrices, mixing with the model before."""
