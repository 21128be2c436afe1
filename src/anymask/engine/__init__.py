"""The data engine: projects, and what people and models leave in them."""
