"""What runs measure: errors, clean, under the attacks that published numbers name, and on corrupted images."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from puzzlemix.data.corrupted import RELEASED, STANDARD


class Measure(NamedTuple):
    """An error in percent; a clean one has `STATISTICS` over epochs, the others come from the last epoch's network."""

    key: str  # in `metrics.json`
    title: str  # of its column
    published_as: str  # by the sources
    attack: Mapping[str, Any] | None = None  # its settings, as in `configs/attack/`; None: there is none
    corruptions: tuple[str, ...] = ()  # that it is a mean over; empty: images are not corrupted


def _attack(eps_255: float, step_255: float, steps: int) -> dict[str, Any]:
    return {"eps_255": eps_255, "step_255": step_255, "steps": steps, "random_start": steps > 1}


TOP1 = Measure("top1_error", "top-1 error %", "top1_error")
TOP5 = Measure("top5_error", "top-5 error %", "top5_error")
FGSM4 = Measure("fgsm4_error", "FGSM 4/255 %", "fgsm4_error", _attack(4, 4, 1))
FGSM8 = Measure("fgsm8_error", "FGSM 8/255 %", "fgsm8_error", _attack(8, 8, 1))
PGD20_EPS4 = Measure("pgd20_eps4_error", "PGD-20 4/255 %", "pgd20_eps4_step2_accuracy", _attack(4, 2, 20))
PGD7_EPS4 = Measure("pgd7_eps4_error", "PGD-7 4/255 %", "pgd7_eps4_step1_accuracy", _attack(4, 1, 7))
PGD7_EPS8 = Measure("pgd7_eps8_error", "PGD-7 8/255 %", "pgd7_eps8_step2_accuracy", _attack(8, 2, 7))
PGD20X5_EPS8 = Measure(
    "pgd20x5_eps8_error", "PGD-20 x 5 8/255 %", "pgd20x5_eps8_step2_accuracy", _attack(8, 2, 20) | {"restarts": 5}
)

CORRUPTED19 = Measure("corrupted19_error", "19 corruptions %", "corruption_error", corruptions=RELEASED)
CORRUPTED15 = Measure("corrupted15_error", "15 corruptions %", "corruption_error of 15", corruptions=STANDARD)
CORRUPTED = tuple(
    Measure(f"{name}_error", f"{name.replace('_', ' ')} %", f"corruption_error[{name}]", corruptions=(name,))
    for name in RELEASED
)

ATTACKED = (FGSM8, PGD7_EPS8, PGD20_EPS4)  # columns of tables: one step alone says little
MEASURES = (
    *(TOP1, TOP5, FGSM4, FGSM8, PGD20_EPS4, PGD7_EPS4, PGD7_EPS8, PGD20X5_EPS8),
    *(CORRUPTED19, CORRUPTED15, *CORRUPTED),
)
BY_NAME = {name: measure for measure in MEASURES for name in (measure.key, measure.published_as)}
