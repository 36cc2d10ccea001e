"""The run record: a folder that holds every decision of a run, whole even when its process was killed."""
