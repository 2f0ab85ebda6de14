"""What MLflow is told about the runs."""
