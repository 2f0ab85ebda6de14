"""The architectures, and the classifier that is built from one."""
