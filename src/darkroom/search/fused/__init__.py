"""Several trainings as one program."""
