"""Reports: what a run has to say for itself, as files for people and programs, made from the local store alone."""
