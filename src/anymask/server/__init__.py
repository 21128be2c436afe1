"""The browser tool's server: images, embeddings, annotations and exports over HTTP, one process, no other service."""
