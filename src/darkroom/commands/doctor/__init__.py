"""`darkroom doctor`: whether files, DVC, the MLflow store and the registry agree, and the command to run if not."""
