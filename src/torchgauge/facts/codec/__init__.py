"""Facts as JSON and msgpack files, by msgspec; knows no type of them."""
