"""What the log beside a checkpoint of the authors' claims: the `log.txt` that their main.py writes.

For each epoch it has a line `**Test** Prec@1 ...`; after the last, where test_robust.py was run, a line for each attack
after each of its steps.
"""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median

NAME = "log.txt"
NUMBER = r"(\d+(?:\.\d+)?)"
SEED = re.compile(r"^Random Seed: (\d{1,9})$", re.MULTILINE)
TESTED = re.compile(rf"\*\*Test\*\* Prec@1 {NUMBER} ")
ATTACKED = re.compile(rf"^(FSGM|PGD) attack \(eps {NUMBER}, step {NUMBER}, iter: (\d+)\): {NUMBER}$", re.MULTILINE)


def claims_of_log(path: Path) -> dict[str, int | float]:
    """What a log claims, as far as it does; nothing where there is none.

    Returns:
        `log_seed`, `log_epochs`, and accuracies in percent: `log_last`, `log_median10` (of the last ten epochs, the
        paper's statistic), `log_best`, and for each attack, after its last step, such as `log_under FGSM 8/255`.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return {}
    claims: dict[str, int | float] = {}
    if seed := SEED.search(text):
        claims["log_seed"] = int(seed[1])
    if tested := _percentages(TESTED.findall(text)):
        claims |= {"log_epochs": len(tested), "log_last": tested[-1]}
        claims |= {"log_median10": round(median(tested[-10:]), 3), "log_best": max(tested)}
    after: dict[tuple[str, ...], tuple[int, float]] = {}
    for *attack, steps, accuracy in ATTACKED.findall(text):
        if _percentages([accuracy]):
            after[tuple(attack)] = max(after.get(tuple(attack), (0, 0.0)), (int(steps), float(accuracy)))
    return claims | {f"log_under {_words(*attack, steps)}": value for attack, (steps, value) in after.items()}


def _words(kind: str, eps: str, step: str, steps: int) -> str:
    """`FGSM 8/255`, `FGSM-7 8/255 (step 2)`, `PGD-7 8/255 (step 2)`; FSGM is what the log calls FGSM."""
    name = kind.replace("FSGM", "FGSM")
    return f"{name} {eps}/255" if steps == 1 and step == eps else f"{name}-{steps} {eps}/255 (step {step})"


def _percentages(found: list[str]) -> list[float]:
    return [value for value in map(float, found) if value <= 100]
