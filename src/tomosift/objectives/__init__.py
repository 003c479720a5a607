"""Training objectives: the modules whose losses the training loop descends, one file for each method that needs one."""
