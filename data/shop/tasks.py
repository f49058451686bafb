"""Tasks of visitors of the demo shop: each is a list of products of several categories.

A product can be on several lists, so that one click does not say which task a visitor has.
"""

TASKS: dict[str, tuple[str, ...]] = {
    "Camping weekend": (
        "Tent", "Sleeping bag", "Sleeping mat", "Camping stove", "Gas cartridge",
        "Camping cookware", "Head torch", "Water filter", "Cool box", "Camping chair",
        "First aid kit", "Backpack", "Rain jacket", "Thermos flask",
    ),
    "Mountain hike": (
        "Hiking boots", "Hiking socks", "Rain jacket", "Backpack", "Trekking poles", "Map case",
        "Water bottle", "Energy bars", "First aid kit", "Sun hat", "Sleeping bag", "Head torch",
        "Thermos flask",
    ),
    "First marathon": (
        "Running shoes", "Running socks", "Running shorts", "Running shirt", "Sports watch",
        "Running belt", "Energy gel", "Foam roller", "Running cap", "Reflective vest",
        "Water bottle", "Energy bars",
    ),
    "Commute by bike": (
        "Road bike", "Bike helmet", "Bike lights", "Bike lock", "Reflective vest", "Rain jacket",
        "Cycling gloves", "Bike pump", "Inner tube", "Chain oil", "Bottle cage",
        "Bike repair stand", "Water bottle",
    ),
    "Triathlon": (
        "Swimsuit", "Swim goggles", "Swim cap", "Road bike", "Bike helmet", "Bottle cage",
        "Running shoes", "Sports watch", "Energy gel", "Running belt", "Foam roller", "Swim bag",
    ),
    "Swimming lessons": (
        "Swimsuit", "Swim goggles", "Swim cap", "Ear plugs", "Kickboard", "Pull buoy",
        "Swim fins", "Bath towel", "Flip-flops", "Swim bag",
    ),
    "Beach holiday": (
        "Suitcase", "Packing cubes", "Swimsuit", "Bath towel", "Flip-flops", "Sun hat",
        "Toiletry bag", "Travel guide", "Cool box", "Camera", "Neck pillow",
    ),
    "Long flight": (
        "Suitcase", "Luggage scale", "Luggage lock", "Packing cubes", "Passport holder",
        "Travel adapter", "Neck pillow", "Eye mask", "Ear plugs", "Toiletry bag",
        "Travel guide", "Headset",
    ),
    "Home office": (
        "Desk", "Office chair", "Monitor", "Monitor arm", "Keyboard", "Mouse", "Headset",
        "Desk lamp", "Footrest", "Notebook", "Espresso machine", "Travel mug",
    ),
    "Espresso at home": (
        "Espresso machine", "Coffee grinder", "Espresso beans", "Tamper", "Milk jug",
        "Espresso cups", "Coffee scale", "Knock box", "Descaler", "Travel mug",
    ),
    "Tea time": (
        "Kettle", "Teapot", "Green tea", "Tea strainer", "Tea cups", "Tea tray", "Tea caddy",
        "Honey", "Matcha whisk", "Cake stand", "Cookie cutters",
    ),
    "Birthday cake": (
        "Stand mixer", "Mixing bowl", "Measuring cups", "Flour", "Baking tin", "Rolling pin",
        "Cookie cutters", "Cooling rack", "Piping bag", "Cake stand", "Oven gloves", "Apron",
    ),
    "First kitchen": (
        "Chef's knife", "Cutting board", "Knife sharpener", "Frying pan", "Spatula", "Saucepan",
        "Colander", "Casserole", "Oven gloves", "Cookbook", "Kettle", "Mixing bowl",
        "Measuring cups",
    ),
    "Barbecue party": (
        "Charcoal grill", "Charcoal", "Fire starter", "Grill tongs", "Meat thermometer",
        "Skewers", "Barbecue sauce", "Apron", "Chef's knife", "Cutting board", "Cool box",
        "Grill brush", "Grill cover",
    ),
    "New garden": (
        "Lawn mower", "Garden shears", "Spade", "Garden gloves", "Flower pots", "Potting soil",
        "Seeds", "Watering can", "Garden hose", "Compost bin", "Charcoal grill",
        "Camping chair",
    ),
    "Moving in": (
        "Wall paint", "Paint roller", "Paint tray", "Masking tape", "Dust sheet", "Paint brush",
        "Filler", "Sandpaper", "Step ladder", "Overalls", "Cordless drill", "Screws",
        "Wall plugs",
    ),
    "Shelves and pictures": (
        "Cordless drill", "Drill bits", "Screws", "Wall plugs", "Spirit level", "Tape measure",
        "Hammer", "Toolbox", "Work gloves", "Safety glasses", "Step ladder", "Filler",
    ),
    "New baby": (
        "Pram", "Car seat", "Cot", "Nappies", "Baby wipes", "Changing mat", "Baby bottle",
        "Bottle warmer", "Bibs", "Baby monitor", "Photo album", "Camera",
    ),
    "First dog": (
        "Dog bed", "Dog lead", "Dog collar", "Dog food", "Food bowl", "Dog treats", "Chew toy",
        "Dog brush", "Dog shampoo", "Dog crate", "Rain jacket",
    ),
    "Guitar lessons": (
        "Acoustic guitar", "Guitar strings", "Guitar tuner", "Plectrums", "Capo",
        "Guitar stand", "Guitar strap", "Guitar bag", "Songbook", "Metronome", "Notebook",
    ),
    "Yoga at home": (
        "Yoga mat", "Yoga block", "Yoga strap", "Yoga trousers", "Bolster",
        "Meditation cushion", "Mat spray", "Incense", "Singing bowl", "Yoga bag",
        "Foam roller", "Green tea", "Water bottle",
    ),
    "Photo tour": (
        "Camera", "Camera lens", "Memory card", "Camera bag", "Tripod", "Spare battery",
        "Lens filter", "Cleaning kit", "Flash", "Photo album", "Backpack", "Hiking boots",
        "Travel adapter",
    ),
}  # fmt: skip
