"""The command line: options, messages and exit codes of every command.

The room has more than 15 modules because each command is one file, named as the command.
"""

COMMANDS: dict[str, str] = {
    "sort": "Classify all picks from a few labels: check, extract, pretrain, fine-tune, classify and report.",
    "inspect": "Describe files: volumes, structures, particle tables, tilt series, sets and runs.",
    "check": "Check picks and tomograms before the work starts.",
    "extract": "Extract subtomograms from tomograms, or import those of another program, into a set.",
    "train": "Train a method on a set, such as contrastive pretraining or supervised fine-tuning.",
    "classify": "Classify every particle of a set by a trained model.",
    "explore": "Cluster a set without labels, and compare the clusters with known structures.",
    "label": "Label particles on a page in the browser; a query strategy selects the next ones.",
    "identify": "Classify particles by one to five labeled examples of each class, without training.",
    "scan": "Pick and classify particles in whole tomograms from labels of each class.",
    "adapt": "Adapt a model to an unlabeled set, from a labeled set or simulated structures.",
    "translate": "Train a generator that turns maps of structures into subtomograms in the style of a set.",
    "evaluate": "Write an HTML report on a run: accuracy, confusion, calibration and class averages.",
    "benchmark": "Measure accuracy by protocol, method, label budget and seed in one table.",
    "simulate": "Simulate tomograms or subtomograms of known structures, or of synthetic complexes.",
    "atlas": "List the built-in structures, or add your own.",
    "models": "List, describe and check models: those that come with the program, and your own.",
    "sbatch": "Write a SLURM job script for another command, such as a training on several nodes.",
    "quickstart": "Simulate small tomograms and sort their particles, to check the installation.",
}
"""Name of each command and what it does; its module has a function `command` whose signature is the command line."""
