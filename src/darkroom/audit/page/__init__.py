"""The audit's page: findings to look at and to decide about, in one HTML file."""
