"""Lines as a graph takes them: fitted, and in portions of its batch size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from htr_engines.errors import DataError, ImageError
from htr_engines.preprocess import fit_line, load_pages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from htr_engines.lines import Line
    from htr_engines.preprocess import Preprocessing


def fitted_batches(lines: Iterable[Line], spec: Preprocessing, batch: int = 1) -> Iterator[NDArray[np.float32]]:
    """Yield lines as float32 [batch,1,height,width], the last batch filled up with its last line.

    Lines whose image cannot be read are left out.

    Raises:
        DataError: if none can be read.
    """
    portion: list[NDArray[np.float32]] = []
    found = False
    for line in lines:
        try:
            portion.append(fit_line(load_pages(line.image, spec.alpha)[0], spec))
        except ImageError:
            continue
        found = True
        if len(portion) == batch:
            yield np.stack(portion)
            portion = []
    if portion:
        yield np.stack(portion + portion[-1:] * (batch - len(portion)))
    if not found:
        raise DataError("none of the lines could be read, so nothing was measured; give other --lines")
