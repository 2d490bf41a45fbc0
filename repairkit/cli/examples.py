"""Two examples for the help of each command."""

EXAMPLES = {
    "fairness": (
        "repairkit fairness",
        "repairkit fairness --model mine.safetensors --data people.csv --source-data train.csv --out runs/fair",
    ),
    "adversarial": (
        "repairkit adversarial --model squeezenet1_1 --dry-run",
        "repairkit adversarial --model mine.safetensors --data-root photos --effort standard --out runs/attack",
    ),
    "recall": (
        "repairkit recall --model squeezenet1_1 --class 3",
        "repairkit recall --model mine.safetensors --data-root photos --class zebra --repair --out runs/zebra",
    ),
    "accuracy": (
        "repairkit accuracy --model squeezenet1_1",
        "repairkit accuracy --model mine.safetensors --data-root photos --baselines --out runs/accuracy",
    ),
    "dropout": (
        "repairkit dropout",
        "repairkit dropout --model plain.safetensors --compare-model dropout.safetensors --data-root photos",
    ),
    "prune": (
        "repairkit prune --model squeezenet1_1",
        "repairkit prune --model mine.safetensors --data-root photos --max-accuracy-drop 1% --out runs/small",
    ),
    "apply": (
        "repairkit apply runs/fair/patch.json --weights mine.safetensors",
        "repairkit apply runs/fair/patch.json --weights other.safetensors --force --out other-repaired.safetensors",
    ),
    "train": (
        "repairkit train --data photos --arch resnet18 --out mine.safetensors",
        "repairkit train --data photos --arch resnet18 --init mine.safetensors --filter-dropout 0.2 --out dropout.safetensors",
    ),
    "run": (
        "repairkit run recipes/fig3a_fairness.toml --embedded",
        "repairkit run --all --data-root data --out runs/all",
    ),
    "recipes": ("repairkit recipes", "repairkit recipes --json"),
    "report": ("repairkit report runs/fair", "repairkit report runs/fair --json"),
    "attribution": ("repairkit attribution runs/fair", "repairkit attribution runs/fair --top-k 10 --json"),
}
