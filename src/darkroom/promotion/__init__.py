"""Which model serves: versions in MLflow's registry, the gate for a new version, and changes of the champion.

``registry`` queries MLflow's registry, ``evaluated_model`` loads a version with its evaluation, ``gate`` has the rules,
``history`` the log that decides which version is champion, ``promote`` the gate's verdict, and ``aliases`` appends to
the log and moves the aliases.
"""
