"""What the synthetic shop sells: in each category, the order in which people look at things."""

PRODUCTS: dict[str, tuple[str, ...]] = {
    "Coffee": (
        "Espresso machine", "Coffee grinder", "Espresso beans", "Tamper", "Milk jug",
        "Espresso cups", "Knock box", "Coffee scale", "Descaler", "Travel mug",
    ),
    "Tea": (
        "Kettle", "Teapot", "Green tea", "Tea strainer", "Tea cups",
        "Tea tray", "Honey", "Tea caddy", "Matcha whisk", "Thermos flask",
    ),
    "Baking": (
        "Stand mixer", "Mixing bowl", "Measuring cups", "Flour", "Baking tin",
        "Rolling pin", "Cookie cutters", "Cooling rack", "Piping bag", "Cake stand",
    ),
    "Cooking": (
        "Chef's knife", "Cutting board", "Knife sharpener", "Frying pan", "Spatula",
        "Saucepan", "Colander", "Casserole", "Oven gloves", "Cookbook",
    ),
    "Camping": (
        "Tent", "Sleeping bag", "Sleeping mat", "Camping stove", "Gas cartridge",
        "Camping cookware", "Head torch", "Water filter", "Camping chair", "Cool box",
    ),
    "Hiking": (
        "Hiking boots", "Hiking socks", "Rain jacket", "Backpack", "Trekking poles",
        "Water bottle", "Map case", "First aid kit", "Sun hat", "Energy bars",
    ),
    "Running": (
        "Running shoes", "Running socks", "Running shorts", "Running shirt", "Sports watch",
        "Running belt", "Energy gel", "Reflective vest", "Foam roller", "Running cap",
    ),
    "Cycling": (
        "Road bike", "Bike helmet", "Bike lights", "Bike lock", "Cycling gloves",
        "Bike pump", "Inner tube", "Chain oil", "Bottle cage", "Bike repair stand",
    ),
    "Swimming": (
        "Swimsuit", "Swim goggles", "Swim cap", "Bath towel", "Swim bag",
        "Kickboard", "Pull buoy", "Flip-flops", "Ear plugs", "Swim fins",
    ),
    "Yoga": (
        "Yoga mat", "Yoga block", "Yoga strap", "Yoga trousers", "Bolster",
        "Meditation cushion", "Mat spray", "Incense", "Singing bowl", "Yoga bag",
    ),
    "Garden": (
        "Lawn mower", "Garden shears", "Spade", "Garden gloves", "Flower pots",
        "Potting soil", "Seeds", "Watering can", "Garden hose", "Compost bin",
    ),
    "Barbecue": (
        "Charcoal grill", "Charcoal", "Fire starter", "Grill tongs", "Meat thermometer",
        "Grill brush", "Apron", "Barbecue sauce", "Skewers", "Grill cover",
    ),
    "Tools": (
        "Cordless drill", "Drill bits", "Screws", "Wall plugs", "Spirit level",
        "Tape measure", "Hammer", "Toolbox", "Work gloves", "Safety glasses",
    ),
    "Painting": (
        "Wall paint", "Paint roller", "Paint tray", "Masking tape", "Dust sheet",
        "Paint brush", "Filler", "Sandpaper", "Step ladder", "Overalls",
    ),
    "Baby": (
        "Pram", "Car seat", "Nappies", "Baby wipes", "Changing mat",
        "Baby bottle", "Bottle warmer", "Bibs", "Baby monitor", "Cot",
    ),
    "Dogs": (
        "Dog bed", "Dog lead", "Dog collar", "Dog food", "Food bowl",
        "Dog treats", "Chew toy", "Dog brush", "Dog shampoo", "Dog crate",
    ),
    "Music": (
        "Acoustic guitar", "Guitar strings", "Guitar tuner", "Plectrums", "Capo",
        "Guitar stand", "Guitar strap", "Guitar bag", "Songbook", "Metronome",
    ),
    "Photography": (
        "Camera", "Camera lens", "Memory card", "Camera bag", "Tripod",
        "Spare battery", "Lens filter", "Cleaning kit", "Flash", "Photo album",
    ),
    "Office": (
        "Desk", "Office chair", "Monitor", "Monitor arm", "Keyboard",
        "Mouse", "Desk lamp", "Headset", "Notebook", "Footrest",
    ),
    "Travel": (
        "Suitcase", "Packing cubes", "Toiletry bag", "Travel adapter", "Neck pillow",
        "Luggage scale", "Luggage lock", "Passport holder", "Eye mask", "Travel guide",
    ),
}  # fmt: skip

MAKERS = (
    "Aurora", "Birch", "Cobalt", "Dune", "Ember", "Fjord", "Grove", "Harbour", "Iris", "Juniper",
    "Kestrel", "Lumen", "Maple", "Nimbus", "Orchard", "Pebble", "Quartz", "Raven", "Sable", "Tidal",
)  # fmt: skip
