"""A network of images becomes one of clips: its kernels are repeated over time and divided by their number.

Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, section 2.2. In a clip that does not
change, the frames in the middle then have the features of the image; at the ends the padding takes part.
IBM's release of I3D repeats without dividing, and leaves the rest to its batch norms.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from foveate.weights.rename import Table, rename

PATHWAY: Table = [  # of a ResNet of images, in the words of a 3D ResNet of one pathway
    (r"^backbone\.conv1\.", "net.stem.conv."),
    (r"^backbone\.bn1\.", "net.stem.bn."),
    *((rf"^backbone\.layer{stage}\.", f"net.res{stage + 1}.") for stage in range(1, 5)),
]


def inflate(images: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an image model, shaped and named as a clip model wants them where that is all they lack.

    A kernel (O, I, h, w) that is wanted as (O, I, t, h, w) is repeated t times and divided by t; every other
    weight stays as it is.
    """
    if "net.stem.conv.weight" in wanted:
        images = rename(images, PATHWAY, "start")
    return {key: _over_time(value, wanted.get(key)) for key, value in images.items()}


def _over_time(kernel: Tensor, wanted: Tensor | None) -> Tensor:
    if wanted is None or wanted.dim() != 5 or kernel.shape != (*wanted.shape[:2], *wanted.shape[3:]):
        return kernel
    return kernel.unsqueeze(2).expand_as(wanted) / wanted.shape[2]
