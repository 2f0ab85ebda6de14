"""What the day on a GPU measures, a module for each kind of figure."""
