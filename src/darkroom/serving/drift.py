class DriftWatch:
    def __init__(self, reference, classes, window):
        pass

    def add(self, labels, confidences, energies):
        pass

    def report(self):
        return None
