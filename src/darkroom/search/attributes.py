"""The names of the user attributes of studies and trials."""

# Of a study: what it was made for, when a search last opened it, how long it was searched, and the numbers of the
# trials that were ended from outside.
PURPOSE, OPENED, SECONDS, INTERRUPTED = "purpose", "opened", "seconds", "interrupted"
# Of a trial: why it failed, the interrupted trial that it stands for, the number of the one with the same parameters,
# whose outcome it was given, and the process that has it trained.
FAILURE, AGAIN, DUPLICATE, OWNER = "failure", "again", "duplicate_of", "owner"
