"""Draw the pictures of the demo shop as PNG files, one for each item, as a shop has photos.

    python examples/draw_pictures.py --out shop/pictures

The name of a file is the item id, in the form of a URL, with the ending .png.
"""

import argparse
from pathlib import Path
from urllib.parse import quote

from PIL import Image, ImageDraw

from data.shop.assortment import BRANDS, items_table
from data.shop.pictures import SIDE, Picture, picture_of

SCALE = 2  # pixels for each unit of the drawing


def drawn(picture: Picture) -> Image.Image:
    """Return the picture as pixels."""
    image = Image.new("RGB", (SIDE * SCALE, SIDE * SCALE), picture.tile)
    draw = ImageDraw.Draw(image)
    for colour, numbers in picture.shapes:
        scaled = [number * SCALE for number in numbers]
        if len(scaled) == 3:
            draw.circle(scaled[:2], scaled[2], fill=colour)
        else:
            draw.polygon(scaled, fill=colour)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    item_ids = items_table()["item_id"].tolist()
    for number, item_id in enumerate(item_ids):
        picture = picture_of(*divmod(number, len(BRANDS)))
        drawn(picture).save(folder / f"{quote(item_id, safe='')}.png")
    print(f"{len(item_ids):,} pictures are in {folder}.")


if __name__ == "__main__":
    main()
