"""The names of the user attributes of studies and trials."""

# Of a study: what it is for, when a search last opened it, how long it was searched, and the numbers of the trials that
# were ended from outside.
PURPOSE = "purpose"
OPENED = "opened"
SECONDS = "seconds"
INTERRUPTED = "interrupted"
# Of a trial: why it failed, the interrupted trial that it replaces, the number of a trial with the same
# parameters, whose outcome it copies, and the process that trains it.
FAILURE = "failure"
AGAIN = "again"
DUPLICATE = "duplicate_of"
OWNER = "owner"
