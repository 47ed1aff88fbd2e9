"""What can be trained: a model, its data, its loss."""
