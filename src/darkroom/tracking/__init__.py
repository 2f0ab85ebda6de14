"""Tracking in MLflow. No training waits for it.

A stage writes what it has to tell into a ``spool``, a file of operations; the ``writer``, a thread, brings them
to the ``store`` whenever that answers. ``runs`` is what a run can be told, ``tracker`` what a stage holds of it all.
``address`` says where the store is, ``database`` whether its file can be used, ``relocation`` where its files lie.
MLflow takes seconds to import: ``store`` alone imports it, and is imported itself where it is used.
"""
