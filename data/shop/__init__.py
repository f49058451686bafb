"""Demo shop: named products with prices and pictures, and visits whose intent lasts."""
