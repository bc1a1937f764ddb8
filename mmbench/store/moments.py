"""Which trainings are to leave a snapshot at which moments, noted by a sweep before they begin.

    DIR/moments/KEY/MOMENT    an empty file: the training of that key leaves a snapshot at that moment

A moment is a number of steps, or of epochs as `5epochs`. Notes of several sweeps add up, whichever process trains.
"""

from __future__ import annotations

from pathlib import Path

from mmbench.errors import StoreError


def note_moment(root: Path, key: str, moment: int | str) -> None:
    """Note a moment for the training of that key.

    Args:
        root: of the store.
        key: of the training.
        moment: steps, or epochs as `5epochs`.

    Raises:
        StoreError: the note cannot be written.
    """
    path = root / "moments" / key / str(moment)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise StoreError(f"could not write to results = {str(root)!r}: {error.strerror}") from None


def noted_moments(root: Path, key: str) -> list[int | str]:
    """The moments that were noted for the training of that key."""
    names = sorted(path.name for path in (root / "moments" / key).glob("*"))
    return [int(name) if name.isdigit() else name for name in names]
