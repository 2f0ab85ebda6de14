"""`darkroom doctor`: whether files, DVC, the MLflow store and the registry agree, and what to type if not."""
