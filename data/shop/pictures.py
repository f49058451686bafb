"""Pictures of products: the shape of the category, the colour of the brand, a tile of the product.

A picture is a list of circles and polygons on a square tile, from which any format can be drawn. As
SVG in a `data:` URI it takes about 500 bytes and needs no file and no network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from urllib.parse import quote

from data.shop.assortment import BRANDS, CATEGORIES, PRODUCT_NAMES, PRODUCTS_EACH

SIDE = 48  # of the square tile
BRAND_COLOURS = ("#7a3fc4", "#2f7d4f", "#1458b8", "#a8651b", "#c4321f", "#0f7285")
TILE_COLOURS = (
    "#fdf3e1", "#e8f4fd", "#eaf7ea", "#fdeaea", "#f3ecfb",
    "#fff8d6", "#e3f6f5", "#f6efe8", "#eef0f4", "#fce8f3",
)  # fmt: skip
INK, GAP = True, False  # in the colour of the brand, or of the tile
# Shapes in the order of drawing: three numbers are a circle (centre and radius), more a polygon.
SHAPES: dict[str, tuple[tuple[bool, tuple[int, ...]], ...]] = {
    "Coffee": (
        (INK, (11, 18, 33, 18, 30, 37, 14, 37)), (INK, (34, 25, 6)), (GAP, (35, 25, 3)),
        (INK, (11, 18, 33, 18, 30, 37, 14, 37)), (INK, (17, 8, 19, 8, 19, 15, 17, 15)),
        (INK, (24, 8, 26, 8, 26, 15, 24, 15)), (INK, (8, 39, 36, 39, 34, 42, 10, 42)),
    ),
    "Tea": (
        (INK, (11, 26, 7)), (GAP, (11, 26, 4)), (INK, (24, 28, 12)), (INK, (24, 14, 3)),
        (INK, (33, 27, 42, 16, 45, 19, 35, 35)),
    ),
    "Baking": (
        (INK, (10, 27, 38, 27, 35, 41, 13, 41)), (INK, (15, 24, 6)), (INK, (33, 24, 6)),
        (INK, (24, 20, 8)), (INK, (24, 9, 3)),
    ),
    "Cooking": (
        (INK, (19, 27, 13)), (GAP, (19, 27, 9)), (INK, (28, 20, 43, 10, 46, 14, 31, 24)),
    ),
    "Camping": ((INK, (24, 8, 44, 40, 33, 40, 24, 22, 15, 40, 4, 40)),),
    "Hiking": (
        (INK, (18, 9, 23, 17, 18, 20, 13, 18)),
        (INK, (2, 40, 12, 21, 18, 24, 24, 20, 27, 25, 32, 17, 46, 40)),
    ),
    "Running": (
        (INK, (6, 19, 15, 17, 25, 25, 38, 28, 43, 32, 43, 35, 6, 35)),
        (INK, (6, 36, 43, 36, 41, 40, 6, 40)), (GAP, (17, 22, 20, 21, 24, 29, 21, 29)),
    ),
    "Cycling": (
        (INK, (12, 31, 10)), (GAP, (12, 31, 7)), (INK, (36, 31, 10)), (GAP, (36, 31, 7)),
        (INK, (11, 30, 19, 15, 22, 16, 14, 32)), (INK, (19, 17, 32, 17, 37, 30, 34, 32, 30, 20)),
        (INK, (15, 12, 24, 12, 24, 15, 15, 15)), (INK, (30, 11, 37, 11, 37, 14, 33, 14, 33, 19)),
    ),
    "Swimming": (
        (INK, (34, 12, 5)),
        (INK, (4, 25, 11, 19, 19, 25, 27, 19, 35, 25, 44, 19, 44, 24, 35, 30, 27, 24, 19, 30)),
        (INK, (4, 36, 11, 30, 19, 36, 27, 30, 35, 36, 44, 30, 44, 35, 35, 41, 27, 35, 19, 41)),
    ),
    "Yoga": (
        (INK, (24, 10, 5)), (INK, (19, 17, 29, 17, 31, 32, 17, 32)),
        (INK, (19, 18, 8, 32, 11, 34, 21, 24)), (INK, (29, 18, 40, 32, 37, 34, 27, 24)),
        (INK, (5, 37, 24, 32, 43, 37, 40, 41, 8, 41)),
    ),
    "Garden": (
        (INK, (24, 9, 6)), (INK, (33, 16, 6)), (INK, (30, 25, 6)), (INK, (18, 25, 6)),
        (INK, (15, 16, 6)), (GAP, (24, 18, 5)), (INK, (23, 26, 25, 26, 25, 43, 23, 43)),
        (INK, (25, 40, 37, 31, 36, 39)),
    ),
    "Barbecue": (
        (INK, (7, 20, 41, 20, 34, 32, 14, 32)), (INK, (15, 32, 19, 32, 14, 43, 10, 43)),
        (INK, (29, 32, 33, 32, 38, 43, 34, 43)), (INK, (17, 17, 20, 8, 23, 17)),
        (INK, (25, 17, 29, 5, 33, 17)),
    ),
    "Tools": (
        (INK, (8, 9, 34, 9, 40, 16, 34, 20, 8, 20)), (INK, (19, 20, 26, 20, 26, 43, 19, 43)),
    ),
    "Painting": (
        (INK, (7, 7, 37, 7, 37, 19, 7, 19)),
        (INK, (37, 11, 42, 11, 42, 27, 26, 27, 26, 31, 22, 31, 22, 24, 39, 24, 39, 14, 37, 14)),
        (INK, (20, 31, 28, 31, 28, 44, 20, 44)),
    ),
    "Baby": (
        (INK, (21, 22, 14)), (GAP, (21, 6, 37, 6, 37, 21, 21, 21)), (INK, (14, 40, 4)),
        (INK, (29, 40, 4)), (INK, (34, 22, 41, 12, 45, 12, 45, 15, 42, 15, 36, 25)),
    ),
    "Dogs": (
        (INK, (24, 32, 10)), (INK, (9, 23, 5)), (INK, (18, 13, 5)), (INK, (30, 13, 5)),
        (INK, (39, 23, 5)),
    ),
    "Music": (
        (INK, (16, 33, 11)), (INK, (22, 24, 8)), (INK, (21, 22, 39, 5, 43, 9, 26, 27)),
        (GAP, (18, 30, 4)),
    ),
    "Photography": (
        (INK, (5, 15, 15, 15, 18, 9, 30, 9, 33, 15, 43, 15, 43, 39, 5, 39)),
        (GAP, (24, 26, 9)), (INK, (24, 26, 6)),
    ),
    "Office": (
        (INK, (6, 9, 42, 9, 42, 33, 6, 33)), (GAP, (9, 12, 39, 12, 39, 30, 9, 30)),
        (INK, (21, 33, 27, 33, 30, 40, 18, 40)),
    ),
    "Travel": (
        (INK, (17, 8, 31, 8, 31, 17, 17, 17)), (GAP, (20, 11, 28, 11, 28, 17, 20, 17)),
        (INK, (7, 17, 41, 17, 41, 41, 7, 41)), (GAP, (13, 17, 15, 17, 15, 41, 13, 41)),
        (GAP, (33, 17, 35, 17, 35, 41, 33, 41)),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Picture:
    """Square tile with shapes: the colour and the numbers of each, in the order of drawing."""

    tile: str
    shapes: Sequence[tuple[str, tuple[int, ...]]]

    @property
    def svg(self) -> str:
        """Return the picture as an SVG document."""
        groups = groupby(self.shapes, key=lambda shape: shape[0])
        drawn = "".join(
            f"<g fill='{colour}'>{''.join(_element(numbers) for _, numbers in shapes)}</g>"
            for colour, shapes in groups
        )
        return (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {SIDE} {SIDE}'>"
            f"<path fill='{self.tile}' d='M0,0h{SIDE}v{SIDE}H0z'/>{drawn}</svg>"
        )

    @property
    def data_uri(self) -> str:
        """Return the SVG document as a `data:` URI."""
        return "data:image/svg+xml," + quote(self.svg, safe="/:='+,")


def picture_of(product: int, brand: int) -> Picture:
    """Draw one product of one brand, by their numbers in the assortment."""
    category, in_category = divmod(product, PRODUCTS_EACH)
    tile = TILE_COLOURS[in_category]
    colours = {INK: BRAND_COLOURS[brand], GAP: tile}
    shapes = SHAPES[CATEGORIES[category]]
    return Picture(tile, [(colours[ink], numbers) for ink, numbers in shapes])


def data_uris() -> list[str]:
    """Return the picture of every item, in the order of the items of the assortment."""
    return [
        picture_of(product, brand).data_uri
        for product in range(len(PRODUCT_NAMES))
        for brand in range(len(BRANDS))
    ]


def _element(numbers: tuple[int, ...]) -> str:
    if len(numbers) == 3:
        x, y, radius = numbers
        return f"<circle cx='{x}' cy='{y}' r='{radius}'/>"
    return f"<path d='M{','.join(map(str, numbers))}z'/>"
