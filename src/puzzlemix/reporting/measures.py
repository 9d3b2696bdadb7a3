"""Measures of a run: errors on clean images, under the attacks of published tables, and on corrupted images."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from puzzlemix.data.corrupted import RELEASED, STANDARD


class Measure(NamedTuple):
    """An error in percent. On clean images it has `STATISTICS` over epochs, else it is the last epoch's."""

    key: str  # in `metrics.json`, and in the heads of `results/paper/`
    title: str  # of its column in a table
    attack: Mapping[str, Any] | None = None  # settings as in `configs/attack/`; None if images are not attacked
    corruptions: tuple[str, ...] = ()  # that it is the mean over; empty if images are not corrupted

    @property
    def short_title(self) -> str:
        """The title without unit, such as `top-1` or `FGSM 8/255`."""
        return self.title.removesuffix(" %").removesuffix(" error")

    @property
    def margin(self) -> float:
        """The largest difference from a published number, in percentage points, that counts as none."""
        return 0.5 if self.attack is None and not self.corruptions else 1.5


def _attack(eps_255: float, step_255: float, steps: int) -> dict[str, Any]:
    return {"eps_255": eps_255, "step_255": step_255, "steps": steps, "random_start": steps > 1}


TOP1 = Measure("top1_error", "top-1 error %")
TOP5 = Measure("top5_error", "top-5 error %")
FGSM4 = Measure("fgsm4_error", "FGSM 4/255 %", _attack(4, 4, 1))
FGSM8 = Measure("fgsm8_error", "FGSM 8/255 %", _attack(8, 8, 1))
PGD20_EPS4 = Measure("pgd20_eps4_error", "PGD-20 4/255 %", _attack(4, 2, 20))
PGD7_EPS4 = Measure("pgd7_eps4_error", "PGD-7 4/255 %", _attack(4, 1, 7))
PGD7_EPS8 = Measure("pgd7_eps8_error", "PGD-7 8/255 %", _attack(8, 2, 7))
PGD20X5_EPS8 = Measure("pgd20x5_eps8_error", "PGD-20 x 5 8/255 %", _attack(8, 2, 20) | {"restarts": 5})

CORRUPTED19 = Measure("corrupted19_error", "19 corruptions %", corruptions=RELEASED)
CORRUPTED15 = Measure("corrupted15_error", "15 corruptions %", corruptions=STANDARD)
CORRUPTED = tuple(Measure(f"{name}_error", f"{name.replace('_', ' ')} %", corruptions=(name,)) for name in RELEASED)

ATTACKED = (FGSM8, PGD7_EPS8, PGD20_EPS4)  # columns of our own tables; one step alone shows little
MEASURES = (
    *(TOP1, TOP5, FGSM4, FGSM8, PGD20_EPS4, PGD7_EPS4, PGD7_EPS8, PGD20X5_EPS8),
    *(CORRUPTED19, CORRUPTED15, *CORRUPTED),
)
BY_KEY = {measure.key: measure for measure in MEASURES}
