"""The report of an evaluation: one HTML page without any address outside, with the images behind its numbers."""

REPORT = "index.html"
