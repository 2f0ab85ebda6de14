"""Which model serves: versions in MLflow's registry, the gate that a new one must pass, and how the champion changes.

``registry`` is what the registry is asked, ``evidence`` what is known of a version, ``gate`` the rules, ``history`` the
log that decides who is champion, ``promote`` the commands that append to it.
"""
