"""Pictures that a server keeps, from which people label those that teach most."""
