"""What stands where on the table, and what it is painted with. World axes: z up, the table top at height 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stilllife import objects, shapes, textures
from stilllife.shapes import Shape

LEFT_PAGE = (
    "A picture is light that came",
    "a long way to be in one place",
    "at one time. Turn your head,",
    "and each thing on the table",
    "slides past its neighbours by",
    "its own amount. From sixty",
    "such glances a machine may",
    "guess where every thread and",
    "leaf must be, and then show",
    "the view that nobody took.",
    "Small print is the hard part:",
    "it asks for the highest tones.",
)
RIGHT_PAGE = (
    "First come the soft shapes,",
    "broad as clouds: the bowl of",
    "the vase, the glow of copper.",
    "Next the stripes of the cloth,",
    "the veins of the leaves. Last",
    "of all, these letters, which",
    "are thinner than a thread and",
    "gone when you look from afar.",
    "A small network reads the",
    "blurred page and adds what is",
    "missing, one tone at a time,",
    "until the words are back.",
)

Surface = Literal["matt", "glazed", "copper"]
CLOTH = 0.006
"""Height of the cloth where things stand on it."""


@dataclass(frozen=True)
class Item:
    """A shape and its surface, painted with a texture or a plain linear colour."""

    name: str
    shape: Shape
    surface: Surface
    paint: textures.Texture | textures.Color


def still_life(seed: int) -> tuple[Item, ...]:
    """Everything in the room, the same for the same ``seed``."""
    rng = np.random.default_rng(seed)
    return (*_room(rng), *_flowers(rng), *_fruit(rng), *_book(), *_other_things())


def _room(rng: np.random.Generator) -> tuple[Item, ...]:
    floor = textures.planks(rng, (900, 900), count=22, light=(0.38, 0.29, 0.22), dark=(0.20, 0.14, 0.11))
    table = textures.planks(rng, (1500, 1500), count=18, light=(0.62, 0.43, 0.27), dark=(0.33, 0.20, 0.12))
    cloth = objects.cloth(rng).moved((0, 0, 0), turn_degrees=27)
    return (
        Item("wall", objects.wall(), "matt", textures.wallpaper(rng)),
        Item("floor", objects.disk(3.2, -0.75), "matt", floor),
        Item("table", objects.disk(1.5, 0.0), "matt", table),
        Item("cloth", cloth, "matt", textures.woven_cloth(rng)),
    )


def _flowers(rng: np.random.Generator) -> tuple[Item, ...]:
    place = (-0.04, 0.15, CLOTH)
    bark, leaves = objects.twigs(rng)
    return (
        Item("vase", objects.vase().moved(place), "glazed", textures.painted_vase()),
        Item("bark", bark.moved(place), "matt", (0.16, 0.11, 0.06)),
        Item("leaves", leaves.moved(place), "matt", textures.leaf(rng)),
    )


def _fruit(rng: np.random.Generator) -> tuple[Item, ...]:
    x, y = -0.37, 0.05
    lemons = [
        objects.lemon().moved((x - 0.005, y, CLOTH + 0.116), turn_degrees=35),
        objects.lemon().moved((-0.165, 0.03, CLOTH + 0.034), turn_degrees=-62),
    ]
    return (
        Item("plate", objects.plate().moved((x, y, CLOTH)), "glazed", textures.painted_plate()),
        Item("oranges", objects.oranges().moved((x, y, CLOTH)), "glazed", textures.peel(rng, (0.88, 0.42, 0.07))),
        Item("lemons", shapes.merged(lemons), "glazed", textures.peel(rng, (0.90, 0.73, 0.16))),
    )


def _book() -> tuple[Item, ...]:
    def lying(shape: Shape) -> Shape:
        return shape.moved((0.03, -0.265, CLOTH), turn_degrees=-8)

    left = textures.printed_page(LEFT_PAGE, title="On Light", number=12)
    right = textures.printed_page(RIGHT_PAGE, title="On Print", number=13)
    return (
        Item("left_page", lying(objects.page(-1)), "matt", left),
        Item("right_page", lying(objects.page(1)), "matt", right),
        Item("binding", lying(objects.binding()), "matt", (0.19, 0.05, 0.04)),
    )


def _other_things() -> tuple[Item, ...]:
    card = objects.card().moved((0.10, 0.31, CLOTH), turn_degrees=160)
    return (
        Item("pot", objects.pot().moved((0.27, 0.03, CLOTH), turn_degrees=-140), "copper", (1.0, 1.0, 1.0)),
        Item("card", card, "matt", textures.title_card()),
    )
