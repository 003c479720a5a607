"""The command line: options, messages and exit codes of every command.

The room has more than 15 modules because each command is one file, named as the command.
"""

COMMANDS: dict[str, str] = {
    "sort": "From picks, tomograms and a few labels to a class for every particle: the whole job in one go.",
    "inspect": "Say what a file holds: volumes, structures and particle tables of the field.",
    "check": "Look at picks and tomograms before the work starts and say in plain words what is wrong.",
    "extract": "Cut subtomograms from tomograms, or bring ready-made boxes, into a set.",
    "train": "Train a method on a set: contrastive pretraining, supervised fine-tuning.",
    "classify": "Write a class, its probability and an embedding for every particle of a set.",
    "explore": "Look at a set without labels: a map, clusters, and which known complexes they may be.",
    "label": "Label particles in the browser: what to ask next is learned while you label.",
    "identify": "Name particles by one to five examples of each class; nothing is trained.",
    "scan": "Find and classify particles in whole tomograms, without picks, from a few examples.",
    "adapt": "Carry a model over to boxes without labels, from another set or from simulated structures.",
    "translate": "Learn to give maps of known structures the look of measured boxes, to train on.",
    "evaluate": "Write an HTML report on a trained run: accuracy, confusion, calibration, pictures.",
    "benchmark": "Measure how much a label is worth: protocols, baselines and label budgets into one table.",
    "simulate": "Simulate tomograms, or single subtomograms, of known structures or synthetic complexes.",
    "atlas": "List the built-in structures, or add one of your own.",
    "models": "List, describe and check models: those that come with the program, and your own.",
    "sbatch": "Write a SLURM job script for another command, such as a training over several nodes.",
    "quickstart": "Simulate a small world and run the whole job on it, to see that everything works.",
}
"""Name of each command and what it does; its module has a function `command` whose signature is the command line."""
