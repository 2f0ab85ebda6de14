"""Tracking in MLflow. No training waits for it.

A stage writes operations to a ``spool``, a file; the ``writer``, a thread, sends them to the ``store`` when it
responds. ``runs`` defines the operations on a run, ``tracker`` is the interface for a stage. ``tracking_uri`` finds the
store, ``database`` checks whether its file can be used, ``relocation`` finds the files beside it. MLflow takes seconds
to import: only ``store`` imports it, and is itself imported where it is used.
"""
