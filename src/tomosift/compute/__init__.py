"""Independent tasks in processes, through Dask or on SLURM, and job scripts for SLURM."""
