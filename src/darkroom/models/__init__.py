"""The architectures, and the classifier that is built of one."""
