"""Our engine beside other CPU engines: the same random checkpoint, measured in turn within one run."""
