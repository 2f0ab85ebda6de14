"""Using a registered model."""
