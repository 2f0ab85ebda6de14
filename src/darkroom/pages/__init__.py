"""Pages for people, each one HTML file without any address outside: what all of them share."""
