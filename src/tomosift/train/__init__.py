"""The one training loop and the folder of a run; it knows nothing of cryo-ET."""
