"""What is compared: splatting alone, heads that differ from the faithful one in one respect, and what their time buys.

The faithful head is that of the paper: 4 layers of 3x3 convolutions with 64 channels and ReLU, the image and its pixel
coordinates as input, trained jointly with the Gaussians.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Mode = Literal["joint", "detached", "frozen"]
REFERENCE, FAITHFUL, POSTHOC = "alone", "joint", "posthoc"
RATES = ("1e-4", "1e-3")
AVERAGE_SHARE = 0.1
"""Of the iterations, the last ones, over which Gaussians are averaged."""


@dataclass(frozen=True)
class Plain:
    """Gaussians without a head. With ``time_of``, they get the processor time of that variant, spent on further
    iterations or on more Gaussians; otherwise ``stretch`` times the iterations. ``averaged`` ones are averaged over the
    last iterations. With ``on``, plain splatting goes on from its end for the iterations that a head on finished
    Gaussians learns for.

    Raises:
        ValueError: what goes on from its end was to be another training besides.
    """

    name: str
    group: str
    sentence: str
    time_of: str | None = None
    spent_on: Literal["iterations", "gaussians"] = "iterations"
    stretch: float = 1.0
    averaged: bool = False
    on: bool = False

    def __post_init__(self) -> None:
        if self.on and (self.averaged or self.stretch != 1 or self.time_of is not None):
            raise ValueError(
                f"{self.name}: averaged={self.averaged}, stretch={self.stretch}, time_of={self.time_of!r}: what goes "
                "on from the end of plain splatting has none of them; leave them out"
            )


@dataclass(frozen=True)
class Headed:
    """Gaussians with a head that is switched on at the share ``start`` of the iterations (None: so that it learns for
    as many as were asked for). Frozen Gaussians are finished ones. ``head`` changes ``QnnConfig`` and
    ``schedule`` changes ``Schedule``; ``like`` is the variant that this one differs from in one respect. Finished
    Gaussians may have ``features`` learnt channels, which are splatted like their colour and queries besides the
    coordinates. A ``covered`` head learns from the pixels that the photo's alpha covers, where it has any.

    Raises:
        ValueError: Gaussians that move were to have features, or to learn from such pixels alone.
    """

    name: str
    group: str
    sentence: str
    like: str | None = FAITHFUL
    mode: Mode = "joint"
    start: float | None = None
    densify: bool = False
    head: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    features: int = 0
    covered: bool = False

    def __post_init__(self) -> None:
        if (self.features or self.covered) and self.mode != "frozen":
            raise ValueError(
                f"{self.name}: features={self.features}, covered={self.covered}, mode={self.mode!r}: they are for "
                "finished Gaussians; give mode='frozen'"
            )


@dataclass(frozen=True)
class Plus:
    """qsplat-plus: ``sets`` sets of Gaussians, of which the first is that of the reference, ``averaged`` over the last
    iterations, and the last does not see every ``unseen``-th photo before its last tenth; and a head that reads
    ``photos`` photos, none of them where that is 0. With ``quality`` these are JPEGs of it, and with ``side`` of no
    more pixels a side. ``weighed``, the sets count as far as photos agree with them. With ``features``, a network that
    reads so many learnt channels of them corrects the mean of the sets before photos do. ``trust`` changes what
    ``PhotoConfig`` has besides the number of photos.

    Raises:
        ValueError: a single set, or no photos, to be weighed; no photos to be trusted; or features of sets that are
            weighed, or of photos that are compressed.
    """

    name: str
    group: str
    sentence: str
    sets: int = 2
    photos: int = 8
    quality: int | None = None
    side: int | None = None
    averaged: bool = False
    unseen: int = 8
    weighed: bool = False
    features: int = 0
    trust: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.weighed and (self.sets < 2 or not self.photos):
            raise ValueError(f"{self.name}: sets={self.sets}, photos={self.photos}: photos weigh two sets or more")
        if self.trust and not self.photos:
            raise ValueError(f"{self.name}: trust={dict(self.trust)} without photos: give photos, or no trust")
        if self.features and (self.weighed or self.quality is not None):
            raise ValueError(
                f"{self.name}: features={self.features}, weighed={self.weighed}, quality={self.quality}: features are "
                "of sets that count the same, with photos as they were taken"
            )


Variant = Plain | Headed | Plus


def _headed(name: str, group: str, sentence: str, **head: Any) -> Headed:
    return Headed(name, group, sentence, head=head)


def _scheduled(name: str, group: str, sentence: str, rate: str, decay: str = "cosine") -> Headed:
    return Headed(name, group, sentence, schedule={"head_rate": float(rate), "head_decay": decay})


def _beside(like: str, variant: Headed, group: str, where: str, **changes: Any) -> Headed:
    """``variant`` with ``changes`` that it shares with the variant ``like``."""
    return replace(
        variant,
        name=f"{like}-{variant.name}",
        group=group,
        sentence=f"{variant.sentence}, {where}",
        like=like if variant.like == FAITHFUL else f"{like}-{variant.like}",
        **changes,
    )


def _finished(variant: Headed) -> Headed:
    """``variant`` on finished Gaussians."""
    return _beside(POSTHOC, variant, "finished", "on the finished Gaussians", mode="frozen")


def _on_whole_images(variant: Headed) -> Headed:
    """``variant``, which learns on whole images."""
    schedule = {**variant.schedule, **_WHOLE.schedule}
    return _beside(_WHOLE.name, variant, "whole-images", "on whole images", schedule=schedule)


_CORE: tuple[Variant, ...] = (
    Plain(REFERENCE, "core", "plain splatting to the end: what all others are compared with"),
    Headed(FAITHFUL, "core", "the faithful head, trained jointly on crops from the switch-on to the end", like=None),
    Headed(
        POSTHOC, "core", "the faithful head on the finished Gaussians of 'alone', which no longer move", mode="frozen"
    ),
    Plain("alone-time", "core", "plain splatting given the time of 'joint' as further iterations", FAITHFUL),
    Plain(
        "alone-gaussians", "core", "plain splatting given the time of 'joint' as more Gaussians", FAITHFUL, "gaussians"
    ),
    Plain("alone-time-posthoc", "core", "plain splatting given the time of 'posthoc' as further iterations", POSTHOC),
    Plain("alone-double", "core", "plain splatting with twice the iterations: does the base still gain?", stretch=2.0),
)
_SHAPES: tuple[Headed, ...] = (
    _headed("render-only", "input", "the head sees the image and no queries", input="render"),
    _headed("queries-only", "input", "the head sees the queries and no image", input="queries"),
    _headed("locations", "query", "queries are the 3D locations of the pixels, from depth", query="locations"),
    _headed("rays", "query", "queries are the rays of the pixels", query="rays"),
    _headed("positional", "encoding", "queries in the positional encoding of NeRF", encoding={"kind": "positional"}),
    *(
        _headed(
            f"fourier-{scale}",
            "encoding",
            f"queries as Gaussian Fourier features of scale {scale}",
            encoding={"kind": "fourier", "scale": float(scale)},
        )
        for scale in (1, 10)
    ),
    *(_headed(f"layers-{count}", "layers", f"{count} layers instead of 4", layers=count) for count in (2, 3, 5, 6)),
    *(
        _headed(f"channels-{count}", "channels", f"{count} channels instead of 64", channels=count)
        for count in (16, 32, 128)
    ),
    *(
        _headed(f"kernel-{side}", "kernel", f"{side}x{side} convolutions instead of 3x3", kernel=side)
        for side in (1, 5)
    ),
    *(
        _headed(name, "arithmetic", f"{kind} on any processor", precision=name)
        for name, kind in (("bf16", "bfloat16"), ("fp32", "float32"))
    ),
    *(_scheduled(f"rate-{rate}", "optimiser", f"learning rate {rate} instead of 3e-4", rate) for rate in RATES),
    _scheduled("constant", "optimiser", "constant learning rate instead of a cosine to 0", "3e-4", "constant"),
    _scheduled("constant-1e-3", "optimiser", "constant learning rate of 1e-3", "1e-3", "constant"),
    _headed("leaky", "optimiser", "leaky ReLU instead of ReLU", activation="leaky_relu"),
    Headed(
        "leaky-1e-3",
        "optimiser",
        "leaky ReLU and learning rate 1e-3",
        like="rate-1e-3",
        head={"activation": "leaky_relu"},
        schedule={"head_rate": 1e-3},
    ),
)
_TRAINING: tuple[Headed, ...] = (
    Headed("detached", "mode", "the head learns from the images, the Gaussians as without it", mode="detached"),
    Headed("start-0", "start", "switched on at the start; densification goes on, as it must", start=0.0, densify=True),
    *(Headed(f"start-{share}", "start", f"switched on at {share} %", start=share / 100) for share in (25, 50, 75, 90)),
    Headed(
        "start-25-densify",
        "densification",
        "switched on at 25 %, and densification goes on",
        like="start-25",
        start=0.25,
        densify=True,
    ),
)
_PLUS: tuple[Variant, ...] = (
    Plus("plus", "photos", "two sets of Gaussians, weighed and corrected by photos", weighed=True),
    Plus("plus-unweighed", "photos", "the mean of these two sets, corrected by a head that reads 8 photos"),
    Plus("plus-mean", "photos", "the mean of these two sets of Gaussians, without a head", photos=0),
    Plus("plus-seen", "photos", "as plus-unweighed, but both sets have seen all photos", unseen=0),
    Plus("plus-seen-mean", "photos", "the mean of these two sets, without a head", photos=0, unseen=0),
    Plus("plus-photos", "photos", "one set of Gaussians, and a head that reads 8 photos", sets=1, unseen=0),
    Plain("averaged", "photos", "plain splatting, averaged over the last tenth of the iterations", averaged=True),
    Plain("alone-time-plus", "photos", "plain splatting given the time of 'plus' or more, as iterations", "plus"),
    Plain("averaged-time-plus", "photos", "the same, averaged over the last tenth of them", "plus", averaged=True),
    Plus(
        "plus-averaged", "photo-parts", "as plus-unweighed, but each set is averaged over the last tenth", averaged=True
    ),
    Plus("plus-unseen-4", "photo-parts", "as plus-unweighed, but every 4th photo is kept, not every 8th", unseen=4),
    Plain(
        "alone-gaussians-plus",
        "photo-parts",
        "plain splatting given the time of 'plus' as more Gaussians",
        "plus",
        "gaussians",
    ),
    *(
        Plus(
            f"plus-quality-{quality}",
            "photo-parts",
            f"as plus, with photos as JPEG of quality {quality}",
            quality=quality,
            weighed=True,
        )
        for quality in (98, 95, 90, 60, 30)
    ),
    Plus(
        "plus-side-126",
        "photo-parts",
        "as plus, with photos of 126 pixels, as JPEG of quality 90",
        quality=90,
        side=126,
        weighed=True,
    ),
    Plus("plus-3", "photo-parts", "as plus-unweighed, with three sets of Gaussians", sets=3),
    *(
        Plus(f"plus-photos-{count}", "trust", f"as plus-unweighed, with {count} photos instead of 8", photos=count)
        for count in (4, 16)
    ),
    *(
        Plus(
            f"plus-{name}-{value}",
            "trust",
            f"as plus-unweighed, with {name} {value} instead of {usual}",
            trust={name: value},
        )
        for name, usual, values in (("angle", 1.0, (0.5, 2.0)), ("tolerance", 0.1, (0.03, 0.3)))
        for value in values
    ),
    Plus("plus-abrupt", "trust", "as plus, with photos that come and go at once", weighed=True, trust={"fade": False}),
)
_WHOLE = Headed("whole", "crops", "the head learns on whole images", schedule={"crop_share": 1.0})
_CROPS: tuple[Variant, ...] = (
    _WHOLE,
    Headed(
        "crops-16", "crops", "the head learns on crops of 16 % of the image, not 1 %", schedule={"crop_share": 0.16}
    ),
    Plain("alone-time-whole", "crops", "plain splatting given the time of 'whole' as further iterations", "whole"),
)
_SMALL = Headed(
    "crops-4", "crops", "the head learns on crops of 4 % of the image, not 16 %", schedule={"crop_share": 0.04}
)
FEATURED = Headed(
    f"{POSTHOC}-features",
    "features",
    "8 learnt channels, splatted like the colour, are queries besides the coordinates",
    like=POSTHOC,
    mode="frozen",
    features=8,
)
_FEATURES: tuple[Variant, ...] = (
    FEATURED,
    Plus(
        "plus-mean-features",
        "features",
        "as plus-mean, corrected by a network that reads such channels",
        photos=0,
        features=8,
    ),
    Plus("plus-features", "features", "as plus-unweighed, corrected by such a network before photos do", features=8),
)
_ON = Plain("alone-on", "base", "plain splatting that goes on from its end for the iterations of 'posthoc'", on=True)
_COVERED = tuple(
    Headed(
        f"{name}-covered",
        "covered",
        f"as {name}, learning only from pixels that the photo's alpha covers (of photos without alpha, from all)",
        like=name,
        mode="frozen",
        features=features,
        covered=True,
    )
    for name, features in ((POSTHOC, 0), (FEATURED.name, FEATURED.features))
)
VARIANTS: Mapping[str, Variant] = {
    variant.name: variant
    for variant in (
        *_CORE,
        *_SHAPES,
        *_TRAINING,
        *_CROPS,
        *_PLUS,
        *(_finished(variant) for variant in (*_SHAPES, _WHOLE, _SMALL)),
        *(_on_whole_images(variant) for variant in _SHAPES),
        *_FEATURES,
        *_COVERED,
        _ON,
    )
}
GROUPS = tuple(dict.fromkeys(variant.group for variant in VARIANTS.values()))


def chosen(names: Sequence[str]) -> tuple[Variant, ...]:
    """The variants and groups that ``names`` lists, with the reference, in the order of ``VARIANTS``.

    Raises:
        ValueError: there is no such variant.
    """
    for name in names:
        if name not in VARIANTS and name not in GROUPS:
            raise ValueError(f"--variants: there is no {name!r}; --list shows the variants and their groups")
    wanted = {REFERENCE, *names}
    return tuple(variant for variant in VARIANTS.values() if {variant.name, variant.group} & wanted)


def listing() -> str:
    """Every variant with its sentence, by group."""
    lines, width = [], max(map(len, VARIANTS))
    for group in GROUPS:
        lines.append(f"{group}:")
        lines += [f"  {v.name:<{width}} {v.sentence}" for v in VARIANTS.values() if v.group == group]
    return "\n".join(lines)
